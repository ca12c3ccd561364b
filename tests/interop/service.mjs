// The service under the AWS SDK for JavaScript: one job created and listed, one refusal. It is the client that reads
// timestamps most strictly.
//
// usage: node service.mjs FOLDER ADDRESS, where FOLDER has node_modules with @aws-sdk/client-bedrock

import assert from "node:assert";
import { createRequire } from "node:module";

const [folder, endpoint] = process.argv.slice(2);
const { BedrockClient, CreateModelCustomizationJobCommand, ListModelCustomizationJobsCommand } = createRequire(
  `${folder}/package.json`,
)("@aws-sdk/client-bedrock");

const client = new BedrockClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "x", secretAccessKey: "x" },
  maxAttempts: 1,
});
const request = {
  jobName: "from-javascript",
  customModelName: "from-javascript",
  roleArn: "arn:aws:iam::123456789012:role/R",
  baseModelIdentifier: "amazon.titan-text-express-v1",
  trainingDataConfig: { s3Uri: "s3://my-bucket/training-data.jsonl" },
  outputDataConfig: { s3Uri: "s3://my-bucket/output" },
  hyperParameters: { epochCount: "1", batchSize: "8", learningRate: "0.0001", generalData: "none" },
};
const { jobArn, $metadata } = await client.send(new CreateModelCustomizationJobCommand(request));
assert.equal($metadata.httpStatusCode, 201);
assert.match($metadata.requestId, /^[0-9a-f-]{36}$/);
const listed = await client.send(new ListModelCustomizationJobsCommand({ nameContains: "javascript" }));
const [job] = listed.modelCustomizationJobSummaries;
assert.equal(job.jobArn, jobArn);
assert.ok(["InProgress", "Completed"].includes(job.status), job.status); // it is short
assert.ok(job.creationTime instanceof Date && Math.abs(Date.now() - job.creationTime) < 60_000, `${job.creationTime}`);
const again = client.send(new CreateModelCustomizationJobCommand(request));
await assert.rejects(again, { name: "ValidationException", message: "The provided job name is currently in use." });
