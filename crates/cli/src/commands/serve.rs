//! `outcrop serve`: Bedrock's API on this machine.

use clap::Args;
use outcrop_job::location::Objects;
use outcrop_job::price::Price;
use outcrop_service::inference::{Limits, Program};
use outcrop_service::{Credentials, Launch, Options, Remote, Settings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8420")]
    listen: SocketAddr,
    /// Most jobs that run at a time; the others wait, still `InProgress`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    slots: u16,
    /// Device of jobs and models: cpu, cuda:0 or metal
    #[arg(long)]
    device: Option<String>,
    /// Region of ARNs where a request isn't signed
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Accept only who has these credentials; a file like ~/.aws/credentials, with aws_bearer_token_bedrock too
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Most models kept in memory to generate with; each goes five minutes after its last answer
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    models: u16,
    /// What an hour of this machine costs you, such as 0.35 or "0.35 EUR"; the console prices each job by it
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<Price>,
    /// Account of ARNs, twelve digits
    #[arg(long, default_value = "123456789012", value_parser = account)]
    account: String,
}

/// How much lower than the service's own the priority of a job is: answers come while it trains.
const NICENESS: i32 = 10;

/// Requests that wait for a model before further ones are throttled.
const QUEUE: usize = 64;
/// How long a model stays in memory without a request.
const IDLE: Duration = Duration::from_secs(300);

fn account(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_account { Ok(text.to_string()) } else { Err("an account is twelve digits".to_string()) }
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let credentials = self.credentials.as_deref().map(Credentials::read).transpose()?;
        let checked = credentials.is_some();
        let program = Program { path: super::own_program()?, device: self.device.clone() };
        let limits = Limits { models: self.models.into(), queue: QUEUE, idle: IDLE };
        let launch = Launch {
            program: super::own_program()?,
            slots: self.slots.into(),
            device: self.device,
            niceness: NICENESS,
            report: Box::new(|line| eprintln!("{line}")),
        };
        let (inference, remote) = (Some((program, limits)), Remote::from_environment()?);
        let (region, account, price_per_hour) = (self.region, self.account, self.price_per_hour);
        let objects = remote.as_ref().map(|remote| remote.address().to_string());
        let settings =
            Settings { region, account, credentials, remote, inference, price_per_hour, ..Settings::default() };
        let folder = home.root().display().to_string();
        let ready = Box::new(move |address: SocketAddr| {
            eprintln!("Bedrock's API on http://{address}, jobs and models in {folder}");
            eprintln!("the console is http://{address}/console");
            if let Some(objects) = objects {
                eprintln!("s3:// locations are objects at {objects}");
            }
            if checked {
                eprintln!("only callers with the credentials are accepted");
                return;
            }
            eprintln!("every caller on this machine is accepted: there are no credentials");
            eprintln!(
                "try: AWS_ENDPOINT_URL=http://{address} AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1 aws bedrock list-foundation-models"
            );
        });
        outcrop_service::serve(home, Options { listen: self.listen, settings, launch, ready })?;
        eprintln!("stopped; jobs that run go on, and the next `outcrop serve` finds them");
        Ok(())
    }
}
