//! The service: Bedrock's REST-JSON API, an S3 subset and the console page on one port. It runs each job as a child process
//! of the `outcrop` binary in the job's folder. Training and models are left out: the child does that.
