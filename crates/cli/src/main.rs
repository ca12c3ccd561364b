//! The binary `outcrop`: arguments in, one command run, one line of error out.
//!
//! Exit codes: 0 done, 1 an error, 2 wrong arguments (clap's), 3 a model failed its gate, 75 another process runs the
//! job, 130 stopped by Ctrl-C.

mod commands;
mod examples;
mod terminal;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// glibc returns every large buffer to the kernel and faults it in again page by page; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// EX_TEMPFAIL of sysexits.h: the service takes it for "another process is at it".
const HELD: u8 = 75;

/// Runs Amazon Bedrock's model customization jobs on this machine, and tells whether the result beats its base.
#[derive(Parser)]
#[command(name = "outcrop", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a custom model from a job request (Bedrock's CreateModelCustomizationJob JSON)
    Train(commands::train::Train),
    /// Train every combination of lists of settings, choose on validation data, judge the winner
    Sweep(commands::sweep::Sweep),
    /// Compare models with their base on suites: verdict, measures, report
    Eval(commands::eval::Eval),
    /// Put jobs side by side: settings that differ, verdicts, measures, curves
    Compare(commands::compare::Compare),
    /// Generate text with a custom model or a base
    Generate(commands::generate::Generate),
    /// A model that `serve` asks
    #[command(hide = true)]
    GenerateWorker(commands::generate_worker::GenerateWorker),
    /// List, show, export, delete custom models; import and init bases
    Models(commands::models::Models),
    /// Check data before a run, look at their tokens, divide them, take out what is personal
    Data(commands::data::Data),
    /// List jobs, show one, stop one, follow its log
    Jobs(commands::jobs::Jobs),
    /// What a job will take: memory, steps, time, cost; with --rehearse some steps are really trained
    Plan(commands::plan::PlanCommand),
    /// What of the disk can go: caches, checkpoints that nothing needs, leftovers; with --yes it goes
    Prune(commands::prune::Prune),
    /// Answer Bedrock's API on this machine, for unmodified clients
    Serve(commands::serve::Serve),
    /// Bedrock's operations as the aws client spells them, without a client
    #[command(disable_help_flag = true)]
    Bedrock(commands::bedrock::Bedrock),
    /// Train a tokenizer: byte-level BPE on text files
    Tokenizer(commands::tokenizer::TokenizerCommand),
    /// Check this machine: devices, every op against its reference on each, speed as a share of the limits
    Doctor(commands::doctor::Doctor),
    /// List the settings of a job: range, default, what each does
    Settings(commands::settings::Settings),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(command) => command.run(),
        Command::Sweep(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::GenerateWorker(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Jobs(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Prune(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Bedrock(command) => command.run(),
        Command::Tokenizer(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Settings(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if terminal::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::GateFailed>() => ExitCode::from(3),
        Err(error) if error.is::<commands::data::HasErrors>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            let interrupted = matches!(
                error.downcast_ref(),
                Some(
                    outcrop_trainer::TrainError::Interrupted { .. }
                        | outcrop_trainer::TrainError::SweepInterrupted { .. }
                )
            );
            ExitCode::from(match interrupted {
                true => 130,
                false if commands::train::is_held(&error) => HELD,
                false => 1,
            })
        }
    }
}

/// An error and its causes on one line. A cause that the text before it ends with already is left out.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
