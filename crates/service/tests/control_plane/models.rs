//! Custom models, deployments and provisioned throughput.

use super::{Bench, encoded};
use serde_json::json;

#[tokio::test]
async fn a_model_made_without_the_service_is_there_and_goes_with_its_folder() {
    let bench = Bench::new();
    bench.model("abcdefghijk1", "made-elsewhere", "zzzzzzzzzzz1");
    let arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model/outcrop.pebble-v1:0/abcdefghijk1";
    for path in ["made-elsewhere".to_string(), encoded(arn)] {
        let model = bench.get(&format!("/custom-models/{path}")).await.body;
        assert_eq!((&model["modelArn"], &model["modelStatus"]), (&json!(arn), &json!("Active")), "{model}");
        assert_eq!(model["trainingMetrics"], json!({"trainingLoss": 1.5}));
        assert_eq!(model["validationMetrics"], json!([{"validationLoss": 2.5}]));
        assert_eq!(model["creationTime"], "2026-11-22T07:20:00.123Z");
    }
    let listed = bench.get("/custom-models?nameContains=made").await.body;
    let summary = &listed["modelSummaries"][0];
    assert_eq!((&summary["modelArn"], &summary["ownerAccountId"]), (&json!(arn), &json!("123456789012")));
    assert_eq!(summary["baseModelName"], "nowhere", "the files that were trained");
    for none in [
        "isOwned=false",
        "modelStatus=Failed",
        "baseModelArnEquals=arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fx.yz",
    ] {
        assert_eq!(bench.get(&format!("/custom-models?{none}")).await.body["modelSummaries"], json!([]), "{none}");
    }
    fs_err::remove_dir_all(bench.home.models_dir().join("abcdefghijk1")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(220));
    assert_eq!(bench.get("/custom-models").await.body["modelSummaries"], json!([]));
}

#[tokio::test]
async fn deleting_a_model_takes_its_folder_and_waits_for_those_that_use_it() {
    let bench = Bench::new();
    bench.model("abcdefghijk1", "a-model", "zzzzzzzzzzz1");
    let body = json!({"modelDeploymentName": "a-deployment", "modelArn": "a-model"});
    let made = bench.post("/model-customization/custom-model-deployments", &body).await;
    assert_eq!(made.status.as_u16(), 202);
    let answer = bench.send("DELETE", "/custom-models/a-model", None).await;
    assert_eq!(answer.error().1, "ConflictException");
    let arn = encoded(made.body["customModelDeploymentArn"].as_str().unwrap());
    let answer = bench.send("DELETE", &format!("/model-customization/custom-model-deployments/{arn}"), None).await;
    assert_eq!(answer.status.as_u16(), 200);
    let answer = bench.send("DELETE", "/custom-models/a-model", None).await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, json!({})));
    assert!(!bench.home.models_dir().join("abcdefghijk1").exists());
    let answer = bench.send("DELETE", "/custom-models/a-model", None).await;
    assert_eq!(answer.error(), (404, "ResourceNotFoundException", "Could not find custom model 'a-model'."));
}

#[tokio::test]
async fn a_deployment_lives_through_its_operations() {
    let bench = Bench::new();
    bench.model("abcdefghijk1", "first", "zzzzzzzzzzz1");
    bench.model("abcdefghijk2", "second", "zzzzzzzzzzz2");
    let deployments = "/model-customization/custom-model-deployments";
    let body = json!({"modelDeploymentName": "mine", "modelArn": "first", "description": "d", "clientRequestToken": "t",
        "tags": [{"key": "a", "value": "b"}]});
    let made = bench.post(deployments, &body).await.body;
    assert_eq!(bench.post(deployments, &body).await.body, made, "one token, one deployment");
    let arn = made["customModelDeploymentArn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/"), "{arn}");
    let tags = bench.post("/listTagsForResource", &json!({"resourceARN": arn})).await.body;
    assert_eq!(tags["tags"], json!([{"key": "a", "value": "b"}]));
    let found = bench.get(&format!("{deployments}/mine")).await.body;
    assert_eq!((&found["status"], &found["modelDeploymentName"]), (&json!("Active"), &json!("mine")));
    assert!(found["lastUpdatedAt"].is_string() && found["modelArn"].as_str().unwrap().ends_with("/abcdefghijk1"));
    let (path, change) = (format!("{deployments}/{}", encoded(arn)), json!({"modelArn": "second"}));
    let updated = bench.send("PATCH", &path, Some(&change)).await;
    assert_eq!(updated.status.as_u16(), 202);
    let listed = bench.get(&format!("{deployments}?statusEquals=Active&nameContains=mi")).await.body;
    let summary = &listed["modelDeploymentSummaries"][0];
    assert_eq!(summary["customModelDeploymentName"], "mine");
    assert!(summary["modelArn"].as_str().unwrap().ends_with("/abcdefghijk2"), "{summary}");
    let taken = bench.post(deployments, &json!({"modelDeploymentName": "mine", "modelArn": "first"})).await;
    assert_eq!(taken.error().1, "ValidationException");
    let unknown = bench.post(deployments, &json!({"modelDeploymentName": "x", "modelArn": "nothing"})).await;
    assert_eq!(unknown.error().1, "ResourceNotFoundException");
}

#[tokio::test]
async fn provisioned_throughput_lives_through_its_operations() {
    let bench = Bench::new();
    bench.model("abcdefghijk1", "first", "zzzzzzzzzzz1");
    let body = json!({"modelUnits": 2, "provisionedModelName": "mine", "modelId": "first"});
    let made = bench.post("/provisioned-model-throughput", &body).await;
    assert_eq!(made.status.as_u16(), 201);
    let found = bench.get("/provisioned-model-throughput/mine").await.body;
    assert_eq!((&found["status"], &found["modelUnits"]), (&json!("InService"), &json!(2)));
    assert_eq!(found["foundationModelArn"], "arn:aws:bedrock:us-east-1::foundation-model/outcrop.pebble-v1:0");
    let change = json!({"desiredProvisionedModelName": "ours", "desiredModelId": "amazon.titan-text-lite-v1"});
    let updated = bench.send("PATCH", "/provisioned-model-throughput/mine", Some(&change)).await;
    assert_eq!(updated.status.as_u16(), 200);
    let listed = bench.get("/provisioned-model-throughputs").await.body;
    let summary = &listed["provisionedModelSummaries"][0];
    assert_eq!(summary["provisionedModelName"], "ours");
    assert!(summary["modelArn"].as_str().unwrap().ends_with("foundation-model/amazon.titan-text-lite-v1"));
    let arn = encoded(made.body["provisionedModelArn"].as_str().unwrap());
    assert_eq!(bench.send("DELETE", &format!("/provisioned-model-throughput/{arn}"), None).await.status.as_u16(), 200);
    assert_eq!(bench.get("/provisioned-model-throughput/ours").await.error().0, 404);
    let wrong =
        bench.post("/provisioned-model-throughput", &json!({"modelUnits": 0, "provisionedModelName": "a"})).await;
    assert!(wrong.error().2.starts_with("2 validation errors detected"), "{}", wrong.error().2);
}

#[tokio::test]
async fn a_model_is_made_from_artifacts_and_a_bad_folder_fails_it() {
    let bench = Bench::new();
    let artifacts = bench.home.s3_dir().join("bucket/artifacts");
    fs_err::create_dir_all(&artifacts).unwrap();
    bench.model("abcdefghijk1", "first", "zzzzzzzzzzz1");
    let mut record = bench.state.models().find("first").unwrap();
    fs_err::write(artifacts.join("delta.safetensors"), "tensors").unwrap();
    record.delta_hash = outcrop_job::content_hash::of_file(&artifacts.join("delta.safetensors")).unwrap();
    fs_err::write(artifacts.join("model.json"), serde_json::to_string(&record).unwrap()).unwrap();
    let body = |name: &str, key: &str| {
        json!({"modelName": name, "modelSourceConfig": {"s3DataSource": {"s3Uri": format!("s3://bucket/{key}")}},
            "modelTags": [{"key": "a", "value": "b"}], "roleArn": "arn:aws:iam::123456789012:role/R"})
    };
    let ended = async |name: &str| {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let model = bench.get(&format!("/custom-models/{name}")).await.body;
            if model["modelStatus"] != "Creating" {
                break model;
            }
        }
    };
    let made = bench.post("/custom-models/create-custom-model", &body("again", "artifacts")).await;
    assert_eq!(made.status.as_u16(), 202, "{}", made.body);
    let arn = made.body["modelArn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:bedrock:us-east-1:123456789012:custom-model/imported/"), "{arn}");
    let model = ended("again").await;
    assert_eq!((&model["modelStatus"], &model["customizationType"]), (&json!("Active"), &json!("IMPORTED")), "{model}");
    assert_eq!(model["modelArn"], arn);
    let tags = bench.post("/listTagsForResource", &json!({"resourceARN": arn})).await.body;
    assert_eq!(tags["tags"], json!([{"key": "a", "value": "b"}]));
    fs_err::write(artifacts.join("delta.safetensors"), "tensorz").unwrap();
    assert_eq!(bench.post("/custom-models/create-custom-model", &body("bad", "artifacts")).await.status.as_u16(), 202);
    let model = ended("bad").await;
    assert_eq!(model["modelStatus"], "Failed");
    assert!(model["failureMessage"].as_str().unwrap().contains("its tensors are damaged"), "{model}");
    assert_eq!(bench.send("DELETE", "/custom-models/bad", None).await.status.as_u16(), 200);
    let missing = bench.post("/custom-models/create-custom-model", &body("none", "nowhere")).await;
    assert_eq!(missing.error().1, "ValidationException");
    let taken = bench.post("/custom-models/create-custom-model", &body("again", "artifacts")).await;
    assert_eq!(taken.error().2, "The provided model name is currently in use.");
}

#[tokio::test]
async fn a_model_is_asked_by_any_of_its_names() {
    use outcrop_service::{Target, target};
    let bench = Bench::new();
    bench.model("abcdefghijk1", "first", "zzzzzzzzzzz1");
    let body = json!({"modelDeploymentName": "a-deployment", "modelArn": "first"});
    let deployed = bench.post("/model-customization/custom-model-deployments", &body).await.body;
    let body = json!({"modelUnits": 1, "provisionedModelName": "a-base", "modelId": "amazon.titan-text-lite-v1"});
    let provisioned = bench.post("/provisioned-model-throughput", &body).await.body;
    let model = bench.get("/custom-models/first").await.body;
    let arns = [&deployed["customModelDeploymentArn"], &model["modelArn"]].map(|arn| arn.as_str().unwrap());
    for identifier in [arns[0], arns[1], "first", "a-deployment"] {
        let Target::Custom(found) = target(&bench.state, identifier).unwrap() else { panic!("{identifier}") };
        assert_eq!(found.id, "abcdefghijk1", "{identifier}");
    }
    let arn = provisioned["provisionedModelArn"].as_str().unwrap();
    for identifier in [arn, "a-base", "amazon.titan-text-lite-v1", "pebble"] {
        let Target::Base(found) = target(&bench.state, identifier).unwrap() else { panic!("{identifier}") };
        assert_eq!(found.base, "pebble", "{identifier}");
    }
    assert_eq!(target(&bench.state, "nothing").unwrap_err().code, "ResourceNotFoundException");
}
