//! The command line: arguments → meaning, output, exit codes.
//!
//! Each command is a file. A command that changes something asks the running agent; it works alone only where none
//! runs.

mod agent;
mod alert;
mod apply;
pub mod args;
mod backup;
mod belonging;
mod canary;
mod check;
mod client;
mod client_file;
mod client_list;
mod confirm;
mod demo;
mod demo_guard;
mod error_text;
mod events;
mod explain;
mod history;
mod insistence;
mod key;
mod lacking;
mod last_results;
mod layout;
mod mock;
mod network;
mod output;
mod pieces;
mod probe;
mod restore;
mod run;
mod server;
mod sheet;
mod status;
mod table;
mod target;
mod usage;
mod usage_sums;
mod usage_table;
mod vip;

use crate::agent::{Place, Refusal, SecretUse};
use crate::sys;
use args::{Cli, Command};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use output::{Failure, Output};
use std::process::ExitCode;

/// Widest help: longer lines are hard to read.
const MAX_WIDTH: usize = 100;

/// `drain` is not a command, and `server drain` is. What only other programs run is no advice.
fn name_the_whole_command(error: &mut clap::Error) {
    let word = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => word.clone(),
        _ => return,
    };
    let all = Cli::command();
    let groups = all.get_subcommands().filter(|group| !group.is_hide_set());
    let whole = groups
        .filter(|group| group.find_subcommand(&word).is_some())
        .map(|group| format!("{} {word}", group.get_name()));
    let known: Vec<String> = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(known)) => vec![known.clone()],
        Some(ContextValue::Strings(known)) => known.clone(),
        _ => vec![],
    };
    let mut advice: Vec<String> = whole.collect();
    if advice.is_empty() {
        advice.extend(known.into_iter().filter(|known| !known.starts_with("__")));
    }
    if advice.is_empty() {
        advice.push("help".to_owned());
    }
    error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(advice));
}

/// Runs the command line and returns the process's exit code: 0 done, 1 refused or unhealthy, 2 usage or
/// configuration mistake, 70 our own bug.
pub fn main() -> ExitCode {
    // Where there is no terminal, clap would take 100 columns, and whoever prints its help 80.
    let width = sys::terminal::columns(std::io::stdout()).min(MAX_WIDTH);
    let parsed = Cli::command().term_width(width).try_get_matches().and_then(|matches| {
        let is_file_named = matches.value_source("config").is_some_and(|source| source != ValueSource::DefaultValue);
        Ok((Cli::from_arg_matches(&matches)?, is_file_named))
    });
    let (cli, is_file_named) = match parsed {
        Ok(parsed) => parsed,
        // The commands, without those that only other programs run.
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            let help = Cli::command().term_width(width).render_help();
            eprintln!("{}\n\n{help}", Refusal::new("a command is missing"));
            return ExitCode::from(output::USAGE);
        }
        // Its lines fit already.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            return ExitCode::from(output::USAGE);
        }
        Err(mut error) if error.use_stderr() => {
            name_the_whole_command(&mut error);
            Output::new(false, args::Color::Never).note(error.render().to_string().trim_end());
            return ExitCode::from(output::USAGE);
        }
        Err(error) => error.exit(),
    };
    let out = Output::new(cli.common.json, cli.common.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let why = format!("the asynchronous runtime cannot start: {e}");
            out.failure(&Failure::refused(why));
            return ExitCode::from(output::BUG);
        }
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        out.note("this is a bug of hapilot; traffic is not concerned, HAProxy serves on");
    }));
    let result =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(dispatch(cli, is_file_named, out))));
    // Tasks that still run (a probe, a connection) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match result {
        Ok(Ok(())) => ExitCode::from(output::DONE),
        Ok(Err(failure)) => {
            out.failure(&failure);
            ExitCode::from(failure.exit_code)
        }
        Err(_) => ExitCode::from(output::BUG),
    }
}

async fn dispatch(cli: Cli, is_file_named: bool, out: Output) -> Result<(), Failure> {
    let args::Common { config: file, node, socket, json: _, color: _ } = cli.common;
    let place = Place { file, node, socket, state: None, secrets: SecretUse::Handed };
    let place = if cli.command.is_of_an_agent() { belonging::of_socket(place, is_file_named).await? } else { place };
    match cli.command {
        Command::Run(options) => Box::pin(run::run(place, options, out)).await,
        Command::Check => check::check(&place, out).await,
        Command::Render { file: args::RenderedFile::Haproxy } => check::render(&place, out).await,
        Command::Render { file: args::RenderedFile::Keepalived } => check::render_keepalived(&place, out),
        Command::Plan => apply::plan(&place, out).await,
        Command::Apply(options) => apply::apply(&place, &options, out).await,
        Command::Confirm => confirm::confirm(&place, out).await,
        Command::Explain { server } => explain::explain(&place, &server, out).await,
        Command::Probe(options) => probe::probe(&place, &options, out).await,
        Command::Alert { command } => alert::alert(&place, &command, out).await,
        Command::Key { command } => key::key(&place, &command, out).await,
        Command::Client { command } => client::client(&place, &command, out).await,
        Command::Status => status::status(&place, out).await,
        Command::Server { command } => Box::pin(server::server(&place, &command, out)).await,
        Command::Canary { command } => canary::canary(&place, &command, out).await,
        Command::Vip { command } => vip::vip(&place, &command, out).await,
        Command::Backstop { directory, admin_socket } => vip::backstop(&directory, admin_socket.as_deref()),
        Command::History { command: Some(args::HistoryCommand::Show { revision, haproxy }), .. } => {
            history::show(&place, &revision, haproxy, out)
        }
        Command::History { limit, command: None } => history::history(&place, limit, out),
        Command::Events(options) => events::events(&place, &options, out).await,
        Command::Usage(options) => usage::usage(&place, &options, out),
        Command::Diff { from, to, haproxy } => history::diff(&place, from.as_deref(), to.as_deref(), haproxy, out),
        Command::Tag { revision, name } => confirm::tag(&place, &revision, name, out).await,
        Command::Rollback(options) => apply::rollback(&place, options, out).await,
        Command::Backup(options) => backup::backup(&place, &options, out),
        Command::Restore(options) => restore::restore(&place, &options, out).await,
        Command::Schema => {
            out.print_json(&crate::config::json_schema());
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hapilot", &mut script);
            out.print(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Demo(options) => Box::pin(demo::demo(&options, out)).await,
        Command::DemoGuard { directory } => {
            demo_guard::guard(&directory);
            Ok(())
        }
        Command::Mock(options) => mock::mock(&options, out).await,
        Command::Network => network::settle(&place).await,
        Command::Deadline { state } => Box::pin(confirm::guard(&place, &state)).await,
    }
}
