"""The service under real clients: the aws command line and boto3 from PyPI, unmodified, against `outcrop serve`.

usage: service.py BINARY [NODE_FOLDER]

Runs the two commands of a well-known article to `Completed` with `--custom-model-name` added and the service's address
in AWS_ENDPOINT_URL, then the whole life of jobs and models with boto3. Data goes in and results come out through S3
calls to the same address. With NODE_FOLDER, which has the AWS SDK for JavaScript, service.mjs runs too. Prints what was
checked; any difference is an error."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds
JOB_ARN = r"arn:aws:bedrock:us-east-1:123456789012:model-customization-job/{}/[a-z0-9]{{12}}"
SONNET = "anthropic.claude-3-sonnet-20240229-v1:0"


class Service:
    """`outcrop serve` on a free port with these further arguments, its home in `folder`."""

    def __init__(self, binary, folder, *arguments, environment=os.environ):
        self.home = folder / "home"
        environment = environment | {"OUTCROP_HOME": str(self.home)}
        command = [binary, "serve", "--listen", "127.0.0.1:0", *arguments]
        self.log = open(folder / "serve.log", "w+")
        self.process = subprocess.Popen(command, env=environment, stderr=self.log)
        begin = time.time()
        while not (found := re.search(r"http://\S+:\d+", Path(self.log.name).read_text())):
            assert self.process.poll() is None and time.time() < begin + 60, Path(self.log.name).read_text()
            time.sleep(0.05)
        self.address = found.group(0)
        self.environment = os.environ | {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "none"),
            "NO_PROXY": "127.0.0.1",
        }

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        if error:
            print(Path(self.log.name).read_text(), file=sys.stderr)

    def client(self, service="bedrock"):
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        config = Config(retries={"max_attempts": 1, "mode": "standard"}, proxies={})
        return boto3.client(service, endpoint_url=self.address, config=config, **keys)

    def aws(self, *arguments, service="bedrock"):
        """Runs the command line; gives its JSON."""
        command = [sys.executable, "-m", "awscli", service, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout or "{}")


def wait(look):
    begin = time.time()
    while not (found := look()):
        assert time.time() < begin + PATIENCE, "waited too long"
        time.sleep(0.2)
    return found


def ended(client, name):
    """Waits for the end of a job; gives it."""
    on_the_way = ("InProgress", "Stopping")

    def look():
        job = client.get_model_customization_job(jobIdentifier=name)
        return None if job["status"] in on_the_way else job

    return wait(look)


def refused(code, call, **members):
    """The message of a call that must fail with `code`."""
    try:
        call(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert len(error.response["ResponseMetadata"]["RequestId"]) == 36, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{members} was accepted")


def pairs(number):
    lines = (REPOSITORY / "datasets/sentiment/train.jsonl").read_text().splitlines(keepends=True)
    return "".join(lines[:number])


def articles(service, client):
    """Both commands, word for word, with a model's name added."""
    s3 = service.client("s3")
    s3.create_bucket(Bucket="my-bucket")
    s3.put_object(Bucket="my-bucket", Key="training-data.jsonl", Body=pairs(24).encode())
    prose = (REPOSITORY / "datasets/general/prose.txt").read_text()
    s3.put_object(Bucket="my-bucket", Key="raw-domain-data.txt", Body=prose[:6000].encode())
    role = "arn:aws:iam::123456789012:role/BedrockFineTuningRole"
    first = service.aws(
        *("create-model-customization-job", "--job-name", "my-classification-job", "--customization-type", "FINE_TUNING"),
        *("--role-arn", role, "--base-model-id", SONNET),
        *("--training-data-config", '{"s3Uri": "s3://my-bucket/training-data.jsonl"}'),
        *("--output-data-config", '{"s3Uri": "s3://my-bucket/output/"}'),
        *("--hyper-parameters", '{"epochCount": "3", "batchSize": "1", "learningRate": "0.00001"}'),
        *("--custom-model-name", "my-classification-model"),
    )
    assert re.fullmatch(JOB_ARN.format(re.escape(SONNET)), first["jobArn"]), first
    second = service.aws(
        *("create-model-customization-job", "--job-name", "my-domain-adaptation-job"),
        *("--customization-type", "CONTINUED_PRE_TRAINING", "--role-arn", role, "--base-model-id", SONNET),
        *("--training-data-config", '{"s3Uri": "s3://my-bucket/raw-domain-data.txt"}'),
        *("--output-data-config", '{"s3Uri": "s3://my-bucket/output/"}'),
        *("--hyper-parameters", '{"epochCount": "1", "batchSize": "1", "learningRate": "0.00002"}'),
        *("--custom-model-name", "my-domain-model"),
    )
    for made, name in ((first, "my-classification-job"), (second, "my-domain-adaptation-job")):
        job = ended(client, name)
        assert job["status"] == "Completed", job
        assert job["jobArn"] == made["jobArn"] and job["trainingMetrics"]["trainingLoss"] > 0, job
        folder = f"output/model-customization-job-{made['jobArn'][-12:]}"
        key = f"{folder}/training_artifacts/step_wise_training_metrics.csv"
        csv = s3.get_object(Bucket="my-bucket", Key=key)["Body"].read().decode().splitlines()
        assert csv[0] == "step_number,epoch_number,training_loss,perplexity" and len(csv) > 1, csv
    print("both commands of the article: Completed")


def aliases(service, client):
    model = service.aws("get-foundation-model", "--model-identifier", SONNET)["modelDetails"]
    assert model["modelName"] == "alias of pebble" and model["modelId"] == SONNET, model
    listed = client.list_foundation_models(byCustomizationType="FINE_TUNING")["modelSummaries"]
    assert SONNET in [model["modelId"] for model in listed]
    print(f"{len(listed)} foundation models, the stand-in is in the name")


def refusals(client, request):
    taken = refused("ValidationException", client.create_model_customization_job, **request)
    assert taken == "The provided job name is currently in use.", taken
    for change, part in [
        ({"jobName": "bad name!"}, "Value 'bad name!' at 'jobName' failed to satisfy constraint"),
        ({"customizationType": "BOGUS"}, "Member must satisfy enum value set"),
        ({"roleArn": "testrole"}, "at 'roleArn' failed to satisfy constraint"),
        ({"baseModelIdentifier": "amazon.nothing-v1"}, "The provided model identifier is invalid."),
        ({"trainingDataConfig": {"s3Uri": "s3://my-bucket/none"}}, "Could not validate GetObject permissions"),
        ({"hyperParameters": {"epochCount": "0"}}, "hyperParameters.epochCount"),
    ]:
        message = refused("ValidationException", client.create_model_customization_job, **(request | change))
        assert part in message, message
    refused("ResourceNotFoundException", client.get_model_customization_job, jobIdentifier="nobody")
    refused("ResourceNotFoundException", client.get_custom_model, modelIdentifier="nobody")
    refused("ConflictException", client.stop_model_customization_job, jobIdentifier="life-1")
    print("refusals have Bedrock's codes")


def life(service, client):
    """Create, poll, get the model, deploy, stop another, tags, pages, delete."""
    request = {
        "jobName": "life-1",
        "customModelName": "life-model-1",
        "roleArn": "arn:aws:iam::123456789012:role/R",
        "baseModelIdentifier": "amazon.titan-text-express-v1:0:8k",
        "trainingDataConfig": {"s3Uri": "s3://my-bucket/training-data.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": "s3://outcrop-examples/sentiment/validation.jsonl"}]},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/output"},
        "hyperParameters": {"epochCount": "1", "batchSize": "8", "learningRate": ".0001", "generalData": "none"},
        "jobTags": [{"key": "team", "value": "a"}],
        "customModelTags": [{"key": "stage", "value": "test"}],
        "clientRequestToken": "token-1",
    }
    made = client.create_model_customization_job(**request)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
    assert client.create_model_customization_job(**request)["jobArn"] == made["jobArn"], "one token, one job"
    begun = client.get_model_customization_job(jobIdentifier=made["jobArn"])
    assert begun["status"] == "Completed" or (begun["status"] == "InProgress" and "outputModelArn" not in begun), begun
    assert begun["hyperParameters"] == request["hyperParameters"] and begun["clientRequestToken"] == "token-1"
    job = ended(client, made["jobArn"])
    assert job["status"] == "Completed" and job["endTime"] > job["creationTime"], job
    assert len(job["validationMetrics"]) == 1, job
    refusals(client, request | {"clientRequestToken": "token-2"})

    model = client.get_custom_model(modelIdentifier=job["outputModelArn"])
    assert model["modelName"] == "life-model-1" and model["modelStatus"] == "Active", model
    tags = client.list_tags_for_resource(resourceARN=model["modelArn"])["tags"]
    assert tags == [{"key": "stage", "value": "test"}], tags
    client.tag_resource(resourceARN=made["jobArn"], tags=[{"key": "more", "value": "b"}])
    client.untag_resource(resourceARN=made["jobArn"], tagKeys=["team"])
    tags = client.list_tags_for_resource(resourceARN=made["jobArn"])["tags"]
    assert tags == [{"key": "more", "value": "b"}], tags

    long = request | {"jobName": "life-2", "customModelName": "life-model-2", "clientRequestToken": "token-3"}
    long["trainingDataConfig"] = {"s3Uri": "s3://outcrop-examples/sentiment/train.jsonl"}
    long["hyperParameters"] = {"epochCount": "10", "batchSize": "1", "learningRate": ".0001", "trainable": "all"}
    client.create_model_customization_job(**long)
    client.stop_model_customization_job(jobIdentifier="life-2")
    assert client.get_model_customization_job(jobIdentifier="life-2")["status"] in ("Stopping", "Stopped")
    assert ended(client, "life-2")["status"] == "Stopped"

    pages = client.get_paginator("list_model_customization_jobs").paginate(PaginationConfig={"PageSize": 1})
    names = [job["jobName"] for page in pages for job in page["modelCustomizationJobSummaries"]]
    assert names == ["life-2", "life-1", "my-domain-adaptation-job", "my-classification-job"], names
    listed = service.aws("list-model-customization-jobs", "--status-equals", "Stopped")
    assert [job["jobName"] for job in listed["modelCustomizationJobSummaries"]] == ["life-2"], listed
    before = client.list_model_customization_jobs(creationTimeBefore=begun["creationTime"])
    assert len(before["modelCustomizationJobSummaries"]) == 2, before

    deployed = client.create_custom_model_deployment(modelDeploymentName="mine", modelArn=model["modelArn"])
    assert deployed["ResponseMetadata"]["HTTPStatusCode"] == 202, deployed
    arn = deployed["customModelDeploymentArn"]
    assert client.get_custom_model_deployment(customModelDeploymentIdentifier=arn)["status"] == "Active"
    throughput = client.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="mine", modelId="life-model-1"
    )["provisionedModelArn"]
    found = client.get_provisioned_model_throughput(provisionedModelId=throughput)
    assert found["status"] == "InService" and found["modelArn"] == model["modelArn"], found
    refused("ConflictException", client.delete_custom_model, modelIdentifier="life-model-1")
    client.delete_custom_model_deployment(customModelDeploymentIdentifier="mine")
    client.delete_provisioned_model_throughput(provisionedModelId="mine")
    client.delete_custom_model(modelIdentifier="life-model-1")
    refused("ResourceNotFoundException", client.get_custom_model, modelIdentifier="life-model-1")
    assert len(client.list_custom_models()["modelSummaries"]) == 2
    assert client.get_model_customization_job(jobIdentifier="life-1")["outputModelArn"] == model["modelArn"]
    print("the whole life of jobs and models with boto3")


def texts(service, folder):
    """Invoke and converse, whole and streamed, on a model that an article's command trained and on bases."""
    runtime, model = service.client("bedrock-runtime"), "my-classification-model"
    prompt = json.loads(pairs(1))["prompt"]
    config = {"maxTokenCount": 16, "temperature": 0}
    body = json.dumps({"inputText": prompt, "textGenerationConfig": config})
    claude = json.dumps({
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 16,
        "temperature": 0,
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
    })
    # the article's base is Claude's id, and so is the body
    answer = runtime.invoke_model(modelId=model, body=claude)
    assert answer["contentType"] == "application/json", answer
    answer = json.loads(answer["body"].read())
    text = answer["content"][0]["text"]
    assert text and answer["usage"]["output_tokens"] > 0, answer
    streamed = runtime.invoke_model_with_response_stream(modelId=model, body=claude)
    chunks = [json.loads(event["chunk"]["bytes"]) for event in streamed["body"]]
    assert "".join(chunk.get("delta", {}).get("text", "") for chunk in chunks) == text, chunks
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == answer["usage"]["output_tokens"]
    messages = [{"role": "user", "content": [{"text": prompt}]}]
    settings = {"maxTokens": 16, "temperature": 0}
    whole = runtime.converse(modelId=model, messages=messages, inferenceConfig=settings)
    assert whole["output"]["message"]["content"] == [{"text": text}], whole
    events = list(runtime.converse_stream(modelId=model, messages=messages, inferenceConfig=settings)["stream"])
    assert "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event) == text
    assert len(events) > 5 and events[-1]["metadata"]["usage"] == whole["usage"], events
    counted = runtime.count_tokens(modelId=model, input={"converse": {"messages": messages}})
    assert counted["inputTokens"] == whole["usage"]["inputTokens"], counted

    # the guide's sample: a Titan body by the command line, on provisioned throughput
    client = service.client()
    throughput = client.create_provisioned_model_throughput(modelUnits=1, provisionedModelName="asked", modelId=model)
    arn, out = throughput["provisionedModelArn"], str(folder / "answer.json")
    service.aws("invoke-model", "--model-id", arn, "--body", claude, out, service="bedrock-runtime")
    assert json.loads(Path(out).read_text())["content"][0]["text"] == text
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    titan = service.aws("invoke-model", "--model-id", "amazon.titan-text-express-v1", "--body", body, out, service="bedrock-runtime")
    assert titan["contentType"] == "application/json"
    assert json.loads(Path(out).read_text())["results"][0]["tokenCount"] > 0
    converse = ("converse", "--model-id", model, "--messages", json.dumps(messages))
    said = service.aws(*converse, "--inference-config", json.dumps(settings), service="bedrock-runtime")
    assert said["output"]["message"]["content"][0]["text"] == text, said

    too_long = json.dumps({"inputText": "word " * 100_000})
    long = refused("ValidationException", runtime.invoke_model, modelId="amazon.titan-text-express-v1", body=too_long)
    assert re.fullmatch(r"The prompt has \d+ tokens, which leaves no room in the model's context of \d+; shorten it.", long), long
    refused("ValidationException", runtime.invoke_model, modelId=model, body="{}")
    refused("ResourceNotFoundException", runtime.converse, modelId="nobody", messages=messages)
    print("invoke and converse, whole and streamed, on models, throughput and bases")


def evaluations(service, client):
    """An evaluation job's life: made once, polled, read, listed in pages, stopped, deleted."""
    lines = [json.loads(line) for line in pairs(24).splitlines()]
    records = [{"prompt": line["prompt"], "referenceResponse": line["completion"]} for line in lines]
    body = "".join(json.dumps(record) + "\n" for record in records).encode()
    s3 = service.client("s3")
    s3.put_object(Bucket="my-bucket", Key="prompts.jsonl", Body=body)
    dataset = {"name": "mine", "datasetLocation": {"s3Uri": "s3://my-bucket/prompts.jsonl"}}
    metrics = ["Builtin.Accuracy", "Outcrop.NegativeLogLikelihood"]
    config = {"taskType": "Classification", "dataset": dataset, "metricNames": metrics}
    models = [{"bedrockModel": {"modelIdentifier": name}} for name in ("my-classification-model", "my-domain-model")]
    request = {
        "jobName": "scores-1",
        "clientRequestToken": "scores",
        "roleArn": "arn:aws:iam::123456789012:role/R",
        "evaluationConfig": {"automated": {"datasetMetricConfigs": [config]}},
        "inferenceConfig": {"models": models},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/scores/"},
    }
    made = client.create_evaluation_job(**request)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202, made
    assert client.create_evaluation_job(**request)["jobArn"] == made["jobArn"], "one token, one job"
    arn = made["jobArn"]
    job = wait(lambda: (job := client.get_evaluation_job(jobIdentifier=arn))["status"] != "InProgress" and job)
    assert job["status"] == "Completed" and job["jobType"] == "Automated", job
    assert job["evaluationConfig"] == request["evaluationConfig"], job
    for tag in ("1-my-classification-model", "2-my-domain-model"):
        folder = f"scores/scores-1/{arn[-12:]}/models/{tag}"
        key = f"{folder}/taskTypes/Classification/datasets/mine/{arn[-12:]}_output.jsonl"
        lines = s3.get_object(Bucket="my-bucket", Key=key)["Body"].read().decode().splitlines()
        scores = json.loads(lines[0])["automatedEvaluationResult"]["scores"]
        assert len(lines) == 24 and [score["metricName"] for score in scores] == ["Accuracy", "NegativeLogLikelihood"]
        report = s3.get_object(Bucket="my-bucket", Key=f"{folder}/report/report.json")["Body"].read()
        assert json.loads(report)["headline"]
    second = client.create_evaluation_job(**(request | {"jobName": "scores-2", "clientRequestToken": "scores-2"}))
    client.stop_evaluation_job(jobIdentifier=second["jobArn"])
    status = wait(lambda: (now := client.get_evaluation_job(jobIdentifier=second["jobArn"])["status"]) != "Stopping" and now)
    assert status == "Stopped", status
    pages = client.get_paginator("list_evaluation_jobs").paginate(PaginationConfig={"PageSize": 1})
    assert [job["jobName"] for page in pages for job in page["jobSummaries"]] == ["scores-2", "scores-1"]
    listed = service.aws("list-evaluation-jobs", "--status-equals", "Stopped")
    assert [job["jobName"] for job in listed["jobSummaries"]] == ["scores-2"], listed
    refused("ConflictException", client.stop_evaluation_job, jobIdentifier=arn)
    taken = refused("ValidationException", client.create_evaluation_job, **(request | {"clientRequestToken": "new"}))
    assert taken == "The provided job name is currently in use.", taken
    deleted = client.batch_delete_evaluation_job(jobIdentifiers=[arn, second["jobArn"]])
    assert len(deleted["evaluationJobs"]) == 2 and not deleted["errors"], deleted
    refused("ResourceNotFoundException", client.get_evaluation_job, jobIdentifier=arn)
    print("the life of evaluation jobs")


def javascript(service, client, folder):
    script = Path(__file__).with_name("service.mjs")
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    subprocess.run(["node", script, folder, service.address], env=environment, check=True, timeout=120)
    assert ended(client, "from-javascript")["status"] == "Completed"
    print("the SDK for JavaScript creates and lists")


def main():
    with tempfile.TemporaryDirectory() as folder, Service(sys.argv[1], Path(folder)) as service:
        client = service.client()
        aliases(service, client)
        articles(service, client)
        texts(service, Path(folder))
        evaluations(service, client)
        life(service, client)
        if len(sys.argv) > 2:
            javascript(service, client, sys.argv[2])
    print("boto3 and the aws command line see Bedrock")


if __name__ == "__main__":
    main()
