//! Tests of reading, checking and changing a request.

use super::*;

/// Messages of a file called `job.json`.
fn problems(text: &str) -> Vec<String> {
    let error = Request::from_json_file("job.json", text).expect_err("a problem");
    error.problems.iter().map(ToString::to_string).collect()
}

fn violations(request: &Request, origin: Origin) -> Vec<String> {
    request.validate(origin).expect_err("a violation").iter().map(ToString::to_string).collect()
}

/// The smallest request that a file may hold.
fn small() -> Request {
    Request::from_json_file(
        "job.json",
        r#"{"baseModelIdentifier": "tiny", "trainingDataConfig": {"s3Uri": "train.jsonl"}}"#,
    )
    .unwrap()
}

const FULL: &str = r#"{"jobName":"my-job","customModelName":"m1","roleArn":"arn:aws:iam::123456789012:role/R","clientRequestToken":"1b5f0f4e-a3cb-4c42-8ca3-1c7f98a875ac","baseModelIdentifier":"amazon.titan-text-lite-v1","customizationType":"CONTINUED_PRE_TRAINING","trainingDataConfig":{"s3Uri":"s3://bucket/train.jsonl"},"validationDataConfig":{"validators":[{"s3Uri":"s3://bucket/validation.jsonl"}]},"outputDataConfig":{"s3Uri":"s3://bucket/out"},"hyperParameters":{"learningRate":"0.00001","epochCount":"3","batchSize":"1"},"jobTags":[{"key":"team","value":""}],"customModelTags":[{"key":"a","value":"b"}],"customModelKmsKeyId":"alias/k","vpcConfig":{"subnetIds":["subnet-1"],"securityGroupIds":["sg-1"]}}"#;

#[test]
fn bedrocks_own_body_comes_back_byte_for_byte() {
    for request in [Request::from_json_file("f", FULL).unwrap(), Request::from_json_body(FULL).unwrap()] {
        request.validate(Origin::Network).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), FULL);
        assert_eq!(serde_json::from_str::<Request>(FULL).unwrap(), request);
        assert_eq!(request.customization_type, CustomizationType::ContinuedPreTraining);
        assert_eq!(request.validators()[0].s3_uri, "s3://bucket/validation.jsonl");
        assert_eq!(request.without_effect(), ["customModelKmsKeyId", "vpcConfig"]);
    }
}

#[test]
fn a_file_may_leave_names_away_and_fine_tuning_is_the_default() {
    let request = small();
    request.validate(Origin::File).unwrap();
    assert_eq!(request.customization_type, CustomizationType::FineTuning);
    assert!(request.job_name.is_none() && request.output_data_config.is_none() && request.validators().is_empty());
    assert!(request.without_effect().is_empty());
}

#[test]
fn r33_unknown_members_are_named_with_place_and_nearest() {
    assert_eq!(
        problems("{\n  \"jobname\": \"a\",\n  \"trainingDataConfig\": {\"s3uri\": \"x\"}\n}"),
        [
            "job.json:2:3: unknown member `jobname`; the nearest known one is `jobName`",
            "job.json:3:26: unknown member `trainingDataConfig.s3uri`; the nearest known one is `s3Uri`",
        ]
    );
}

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let text = r#"{
  "jobName": 3,
  "customizationType": "DISTILLATION",
  "trainingDataConfig": {"invocationLogsConfig": {}},
  "validationDataConfig": {"validators": [{}, "x"]},
  "outputDataConfig": null,
  "hyperParameters": {"a": null, "b": {}, "c": [1]},
  "jobTags": [{"key": "a"}],
  "jobName": "again",
  "customizationConfig": {"distillationConfig": {}, "rftConfig": {}}
}"#;
    let only = "is not supported: this engine runs `FINE_TUNING` and `CONTINUED_PRE_TRAINING` jobs on files; remove it";
    assert_eq!(
        problems(text),
        [
            "job.json:2:14: jobName is a number; it must be a string".to_string(),
            "job.json:3:24: customizationType `DISTILLATION` is not supported; use `FINE_TUNING` or `CONTINUED_PRE_TRAINING`".into(),
            format!("job.json:4:50: trainingDataConfig.invocationLogsConfig {only}"),
            "job.json:5:43: validationDataConfig.validators[0] has no `s3Uri`; add it".into(),
            "job.json:5:47: validationDataConfig.validators[1] is a string; it must be a JSON object".into(),
            "job.json:6:23: outputDataConfig is null; it must be a JSON object".into(),
            "job.json:7:28: hyperParameters.a is null; it must be a string".into(),
            "job.json:7:39: hyperParameters.b is an object; it must be a string".into(),
            "job.json:7:48: hyperParameters.c is an array; it must be a string".into(),
            "job.json:8:15: jobTags[0] has no `value`; add it".into(),
            "job.json:9:3: `jobName` is given twice; keep one".into(),
            format!("job.json:10:49: customizationConfig.distillationConfig {only}"),
            format!("job.json:10:66: customizationConfig.rftConfig {only}"),
        ]
    );
}

#[test]
fn text_that_is_no_request_says_so() {
    assert_eq!(problems("[]"), ["job.json:1:1: the request is an array; it must be a JSON object"]);
    assert_eq!(problems("{\"jobName\": \"a\"\n"), ["job.json:2:1: not valid JSON: EOF while parsing an object"]);
    assert_eq!(
        problems(r#"{"hyperParameters": []}"#),
        ["job.json:1:21: hyperParameters is an array; it must be a JSON object of strings"]
    );
    assert_eq!(
        problems(r#"{"customizationType": "FINETUNING"}"#),
        ["job.json:1:23: customizationType `FINETUNING` is unknown; the nearest known one is `FINE_TUNING`"]
    );
    assert_eq!(
        problems(r#"{"hyperParameters": {"seed": 1, "seed": 2}}"#),
        ["job.json:1:33: `hyperParameters.seed` is given twice; keep one"]
    );
    for other in ["REINFORCEMENT_FINE_TUNING", "IMPORTED"] {
        assert!(problems(&format!(r#"{{"customizationType": "{other}"}}"#))[0].contains("is not supported"));
    }
}

#[test]
fn numbers_and_booleans_in_a_file_are_kept_as_written() {
    let text =
        r#"{"hyperParameters": {"learningRate": 0.00001, "seed": 18446744073709551615, "shuffle": false, "a": 1.50}}"#;
    let request = Request::from_json_file("f", text).unwrap();
    assert_eq!(
        request.hyper_parameters.iter().collect::<Vec<_>>(),
        [("learningRate", "0.00001"), ("seed", "18446744073709551615"), ("shuffle", "false"), ("a", "1.50")]
    );
}

#[test]
fn over_the_network_unknown_members_and_nulls_are_ignored() {
    let body = r#"{"future": {"x": 1}, "jobName": null, "baseModelIdentifier": "a", "customizationConfig": {}}"#;
    let request = Request::from_json_body(body).unwrap();
    assert!(request.job_name.is_none());
    assert_eq!(request.base_model_identifier, "a");
    let error = Request::from_json_body(r#"{"jobName": 1}"#).unwrap_err();
    assert_eq!(error.to_string(), "request:1:13: jobName is a number; it must be a string");
}

#[test]
fn what_is_missing_depends_on_the_origin() {
    let empty = Request::default();
    assert_eq!(
        violations(&empty, Origin::File),
        [
            "baseModelIdentifier is missing; name a model folder, a GGUF file or a known model",
            "trainingDataConfig.s3Uri is missing; give `s3://bucket/key` or a path",
        ]
    );
    assert_eq!(
        violations(&empty, Origin::Network),
        [
            "jobName is missing; Bedrock requires it",
            "roleArn is missing; Bedrock requires it",
            "baseModelIdentifier is missing; name a model folder, a GGUF file or a known model",
            "trainingDataConfig.s3Uri is missing; give `s3://bucket/key`",
            "outputDataConfig is missing; name the `s3://` folder that artifacts go to",
        ]
    );
}

#[test]
fn bedrocks_patterns_and_lengths_hold() {
    type Change = fn(&mut Request, String);
    let cases: [(&str, Change, &[&str], &[&str]); 6] = [
        (
            "jobName",
            |request, text| request.job_name = Some(text),
            &["a", "A+b.c--d", "0", "a-"],
            &["", "bad name!", "a_b", "-a", "ä"],
        ),
        (
            "customModelName",
            |request, text| request.custom_model_name = Some(text),
            &["a", "a_b-c", "a-"],
            &["", "a--b", "a.b", "_a"],
        ),
        (
            "roleArn",
            |request, text| request.role_arn = Some(text),
            &["arn:aws:iam::123456789012:role/R", "arn:aws-cn:iam:::role/x"],
            &["", "notanarn", "arn:aws:iam::12:role/R"],
        ),
        (
            "clientRequestToken",
            |request, text| request.client_request_token = Some(text),
            &["a", "a-b"],
            &["", "-a", "a-", "a b"],
        ),
        (
            "trainingDataConfig.s3Uri",
            |request, text| request.training_data_config.s3_uri = text,
            &["s3://bucket/a.jsonl", "s3://bucket", "data/a b.jsonl", "/x", "C:\\x"],
            &["s3://b/x", "s3://my_bucket/x", "s3://bucket//x", "s3://bucket/a b", "file:///x", "S3://bucket/x"],
        ),
        (
            "customModelKmsKeyId",
            |request, text| request.custom_model_kms_key_id = Some(text),
            &["alias/k", "arn:aws:kms:us-east-1:123456789012:alias/k"],
            &["", "key"],
        ),
    ];
    for (member, change, good, bad) in cases {
        for text in good {
            let mut request = small();
            change(&mut request, text.to_string());
            assert_eq!(request.validate(Origin::File), Ok(()), "{member} {text}");
        }
        for text in bad {
            let mut request = small();
            change(&mut request, text.to_string());
            let found = violations(&request, Origin::File);
            assert_eq!(found.len(), 1, "{member} {text}: {found:?}");
            assert!(found[0].starts_with(&format!("{member} is `{text}`, ")), "{}", found[0]);
            assert!(!found[0].contains('\n'));
        }
        let mut long = small();
        change(&mut long, "a".repeat(2049));
        if member != "trainingDataConfig.s3Uri" {
            assert!(violations(&long, Origin::File)[0].contains("2049 characters long; allowed are "), "{member}");
        }
    }
}

#[test]
fn violations_say_what_to_do() {
    let mut request = small();
    request.job_name = Some("bad name!".into());
    request.custom_model_name = Some("a".repeat(64));
    request.training_data_config.s3_uri = "https://x/y".into();
    assert_eq!(
        violations(&request, Origin::File),
        [
            r"jobName is `bad name!`, which doesn't match Bedrock's pattern `[a-zA-Z0-9](-*[a-zA-Z0-9\+\-\.])*`; use for example `support-replies-1`".to_string(),
            format!("customModelName is `{}`, 64 characters long; allowed are 1 to 63", "a".repeat(64)),
            "trainingDataConfig.s3Uri is `https://x/y`, a scheme that isn't read; use `s3://bucket/key` or a path on disk".into(),
        ]
    );
}

#[test]
fn counts_and_duplicates_of_lists_hold() {
    let mut request = small();
    let validator = DataLocation { s3_uri: "v.jsonl".into() };
    request.validation_data_config = Some(ValidationDataConfig { validators: vec![validator; 11] });
    let tag = |index: usize| Tag { key: format!("k{index}"), value: String::new() };
    request.job_tags = (0..51).map(tag).collect();
    request.custom_model_tags = vec![tag(0), tag(0)];
    request.vpc_config = Some(VpcConfig { subnet_ids: vec![], security_group_ids: vec!["a b".into()] });
    assert_eq!(
        violations(&request, Origin::File),
        [
            "validationDataConfig.validators has 11 items; allowed are 0 to 10",
            "jobTags has 51 items; allowed are 0 to 50",
            "customModelTags[1].key is `k0`, which an earlier tag has too; keep one",
            "vpcConfig.subnetIds has 0 items; allowed are 1 to 16",
            "vpcConfig.securityGroupIds[0] is `a b`, which doesn't match Bedrock's pattern `[-0-9a-zA-Z]+`; use for example `subnet-0123456789abcdef0`",
        ]
    );
}

#[test]
fn a_base_in_a_file_is_free_and_over_the_network_bedrocks() {
    let mut request = Request::from_json_body(FULL).unwrap();
    request.base_model_identifier = "TinyLlama/TinyLlama-1.1B".into();
    request.validate(Origin::File).unwrap();
    let found = violations(&request, Origin::Network);
    assert!(
        found[0].starts_with("baseModelIdentifier is `TinyLlama/TinyLlama-1.1B`, which doesn't match"),
        "{found:?}"
    );
    for good in [
        "gpt2",
        "local.tiny-gpt-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1:0:8k",
        "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.titan-text-lite-v1:0:4k/abcdefghijk1",
    ] {
        request.base_model_identifier = good.into();
        request.validate(Origin::Network).unwrap();
    }
    request.training_data_config.s3_uri = "train.jsonl".into();
    assert_eq!(violations(&request, Origin::Network).len(), 1, "paths don't come over the network");
}

#[test]
fn every_example_in_a_message_matches_its_pattern() {
    // Each violation's example, put in place of the value, satisfies the constraint.
    let mut request = small();
    request.set("jobName=!").unwrap();
    request.set("customModelName=!").unwrap();
    request.set("roleArn=!").unwrap();
    request.set("clientRequestToken=!").unwrap();
    request.set("trainingData=s3://!").unwrap();
    request.custom_model_kms_key_id = Some("!".into());
    request.job_tags = vec![Tag { key: "!".into(), value: "!".into() }];
    let found = request.validate(Origin::File).unwrap_err();
    assert_eq!(found.len(), 8);
    for violation in found {
        let Constraint::Pattern { pattern, example } = violation.constraint else { panic!("{violation}") };
        assert!(regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(example), "{violation}");
    }
}

#[test]
fn set_changes_members_and_hyperparameters() {
    let mut request = small();
    for pair in [
        "learningRate=1e-4",
        "hyperParameters.epochCount = 2",
        "jobName=j",
        "customModelName=m",
        "baseModelIdentifier=models/base=1",
        "customizationType=CONTINUED_PRE_TRAINING",
        "trainingDataConfig.s3Uri=a.txt",
        "validationData=v1.jsonl, s3://bucket/v2.jsonl",
        "outputData=out",
        "clientRequestToken=t",
    ] {
        request.set(pair).unwrap();
    }
    assert_eq!(request.hyper_parameters.get("learningRate"), Some("1e-4"));
    assert_eq!(request.hyper_parameters.get("epochCount"), Some("2"));
    assert_eq!(request.base_model_identifier, "models/base=1");
    assert_eq!(request.customization_type, CustomizationType::ContinuedPreTraining);
    assert_eq!(request.training_data_config.s3_uri, "a.txt");
    let validators: Vec<&str> = request.validators().iter().map(|validator| validator.s3_uri.as_str()).collect();
    assert_eq!(validators, ["v1.jsonl", "s3://bucket/v2.jsonl"]);
    assert_eq!(request.output_data_config.as_ref().unwrap().s3_uri, "out");
    request.set("trainingData=b.txt").unwrap();
    assert_eq!(request.training_data_config.s3_uri, "b.txt");
}

#[test]
fn r33_set_refuses_what_it_does_not_know() {
    let mut request = small();
    let mut message = |pair| request.set(pair).unwrap_err().to_string();
    assert_eq!(message("learninRate=1"), "unknown key `learninRate`; the nearest known one is `learningRate`");
    assert_eq!(message("base=x"), "unknown key `base`; the nearest known one is `baseModelIdentifier`");
    assert_eq!(
        message("hyperParameters.epochs=1"),
        "unknown key `hyperParameters.epochs`; the nearest known one is `epochCount`"
    );
    assert_eq!(message("learningRate"), "`learningRate` has no key and value; write `key=value`");
    assert_eq!(message("=1"), "`=1` has no key and value; write `key=value`");
    assert_eq!(
        message("customizationType=IMPORTED"),
        "customizationType `IMPORTED` is not supported; use `FINE_TUNING` or `CONTINUED_PRE_TRAINING`"
    );
    assert_eq!(request, small());
}
