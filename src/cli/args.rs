//! The command line: names are a contract, meanings are checked here once.

mod alert;
mod backup;
mod canary;
mod events;
mod usage;

pub use alert::AlertCommand;
pub use backup::{Backup, Restore};
pub use canary::{CanaryCommand, CanaryTarget};
pub use events::{Events, When};
pub use usage::{By, Since, Usage};

use crate::health::ProbeKind;
use crate::model::{AdminState, Name, ServerId, Weight, parse_duration};
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::time::Duration;

/// Steers a running HAProxy from one TOML file by deep health checks of AI backends.
#[derive(Debug, Parser)]
#[command(name = "hapilot", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The operator's file
    #[arg(
        short,
        long,
        global = true,
        env = "HAPILOT_CONFIG",
        default_value = "/etc/hapilot/hapilot.toml",
        value_name = "FILE"
    )]
    pub config: Utf8PathBuf,
    /// Act for this node instead of the one that `[node] name` or the host name gives
    #[arg(long, global = true, value_name = "NAME", value_parser = parse_name)]
    pub node: Option<Name>,
    /// The running agent's socket; without -c, that agent's file and history are meant
    #[arg(long, global = true, env = "HAPILOT_SOCKET", value_name = "PATH")]
    pub socket: Option<Utf8PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: probe, weigh, apply; until SIGTERM
    Run(Run),
    /// Judge the file: mistakes, lint, `haproxy -c`, certificates, ports; changes nothing
    Check,
    /// Print a rendered file
    Render {
        /// Which file
        #[arg(value_enum, default_value_t = RenderedFile::Haproxy)]
        file: RenderedFile,
    },
    /// Show what an apply would do: runtime commands, or a reload and why, and a diff
    Plan,
    /// Make the running HAProxy serve the file
    Apply(Apply),
    /// Keep the revision that was applied on trial
    Confirm,
    /// Probe backends now and report like a load tool
    Probe(Probe),
    /// See and test the providers' keys, never showing one
    Key {
        /// What to do
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Give clients keys of their own, and take them away
    Client {
        /// What to do
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// See who is told what happens, and try it
    Alert {
        /// What to do
        #[command(subcommand)]
        command: AlertCommand,
    },
    /// Show what serves and how healthy it is
    Status,
    /// Say why a server has its weight: every factor
    Explain {
        /// BACKEND/SERVER
        #[arg(value_name = "BACKEND/SERVER", value_parser = parse_server)]
        server: ServerId,
    },
    /// Take a server out, bring it back, or set its weight
    Server {
        /// What to do
        #[command(subcommand)]
        command: ServerCommand,
    },
    /// See and steer canaries
    Canary {
        /// What to do
        #[command(subcommand)]
        command: CanaryCommand,
    },
    /// See and move virtual addresses
    Vip {
        /// What to do
        #[command(subcommand)]
        command: VipCommand,
    },
    /// List revisions, or show one
    #[command(args_conflicts_with_subcommands = true)]
    History {
        /// What to do instead of the list
        #[command(subcommand)]
        command: Option<HistoryCommand>,
        /// So many, newest first, 1 to 10000
        #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Tell what happened: health, weights, keys, addresses, changes, problems
    Events(Events),
    /// Tell who used what and what it cost: requests, tokens, money, by whole hours of UTC
    Usage(Usage),
    /// Compare two revisions, or one with the file
    Diff {
        /// A revision by number or tag; default: the current one
        #[arg(value_name = "A")]
        from: Option<String>,
        /// Another revision by number or tag; default: the file
        #[arg(value_name = "B")]
        to: Option<String>,
        /// Compare haproxy.cfg instead of the operator's file
        #[arg(long)]
        haproxy: bool,
    },
    /// Give a revision a name, which it keeps
    Tag {
        /// Which revision: its number or another tag
        #[arg(value_name = "REV")]
        revision: String,
        /// Letters, digits, '_', '.' and '-'
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Serve an older revision again, as a new one
    Rollback(Rollback),
    /// Write what an empty node needs to serve what this one serves into one file, without a secret
    Backup(Backup),
    /// Put what a backup has in place, on a node that is empty, or with --force
    Restore(Restore),
    /// Print the JSON Schema of the file, for editors
    Schema,
    /// Print a completion script
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Run a complete local setup without root: mock backends, HAProxy, agent
    Demo(Demo),
    /// Run a mock AI backend whose faults are switched over HTTP
    Mock(Mock),
    /// Decide whether this node may own its addresses while no agent lives; run by Keepalived
    #[command(name = "__backstop", hide = true)]
    Backstop {
        /// `[keepalived] directory`
        #[arg(value_name = "DIRECTORY")]
        directory: Utf8PathBuf,
        /// `[haproxy] admin_socket`; default: as the agent's heartbeat says
        #[arg(value_name = "SOCKET")]
        admin_socket: Option<Utf8PathBuf>,
    },
    /// End what a demo leaves that was killed; started by `demo`
    #[command(name = "__demo_guard", hide = true)]
    DemoGuard {
        /// The demo's temporary directory
        #[arg(value_name = "DIRECTORY")]
        directory: Utf8PathBuf,
    },
    /// Guard the deadline of a trial; started by `apply --confirm`
    #[command(name = "__deadline", hide = true)]
    Deadline {
        /// The state directory
        #[arg(value_name = "STATE")]
        state: Utf8PathBuf,
    },
    /// Make the node's network what its virtual addresses need, once; the agent does it by itself
    #[command(name = "__network", hide = true)]
    Network,
}

impl Command {
    /// Whether it asks the running agent, or reads what that has written.
    pub fn is_of_an_agent(&self) -> bool {
        match self {
            Self::Plan
            | Self::Apply(_)
            | Self::Confirm
            | Self::Status
            | Self::Explain { .. }
            | Self::Server { .. }
            | Self::Vip { .. }
            | Self::Canary { .. }
            | Self::History { .. }
            | Self::Events(_)
            | Self::Usage(_)
            | Self::Diff { .. }
            | Self::Tag { .. }
            | Self::Rollback(_)
            | Self::Backup(_)
            | Self::Alert { command: AlertCommand::List }
            | Self::Key { command: KeyCommand::List } => true,
            Self::Probe(options) => options.last,
            Self::Run(_)
            | Self::Check
            | Self::Render { .. }
            | Self::Key { command: KeyCommand::Test { .. } }
            | Self::Alert { command: AlertCommand::Test { .. } }
            | Self::Client { .. }
            | Self::Restore(_)
            | Self::Schema
            | Self::Completions { .. }
            | Self::Demo(_)
            | Self::Mock(_)
            | Self::Backstop { .. }
            | Self::DemoGuard { .. }
            | Self::Deadline { .. }
            | Self::Network => false,
        }
    }
}

/// What `render` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RenderedFile {
    /// haproxy.cfg
    Haproxy,
    /// keepalived.conf
    Keepalived,
}

/// `run`
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Run {
    /// Change nothing: probe, and tell in log, status and plan what would be done
    #[arg(long)]
    pub observe: bool,
}

/// `apply`
#[derive(Args, Clone, Debug, Default)]
pub struct Apply {
    /// Replace a haproxy.cfg that hapilot did not write, or that was edited by hand; it is kept beside
    #[arg(long)]
    pub adopt: bool,
    /// Also where it takes half of a backend away, or the hour's reloads are spent
    #[arg(long)]
    pub force: bool,
    /// On trial: without `hapilot confirm` in this time the last confirmed revision comes back, 1s to 7d
    #[arg(long, value_name = "DURATION", value_parser = trial)]
    pub confirm: Option<Duration>,
    /// Written into the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `rollback`
#[derive(Args, Clone, Debug, Default)]
pub struct Rollback {
    /// Which revision, by number or tag; default: the last confirmed one before the current one
    #[arg(value_name = "REV|TAG")]
    pub revision: Option<String>,
    /// Written into the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Put the content that serves then into the file too; the file as it was is kept beside
    #[arg(long)]
    pub write: bool,
}

/// `history …`
#[derive(Clone, Debug, Subcommand)]
pub enum HistoryCommand {
    /// Print the operator's file of a revision
    Show {
        /// A revision by number or tag
        #[arg(value_name = "REV|TAG")]
        revision: String,
        /// Print haproxy.cfg instead
        #[arg(long)]
        haproxy: bool,
    },
}

/// `probe`
#[derive(Args, Clone, Debug)]
pub struct Probe {
    /// BACKEND or BACKEND/SERVER; default: all
    #[arg(value_name = "BACKEND[/SERVER]")]
    pub target: Option<String>,
    /// So many of each configured probe and server, 1 to 10000
    #[arg(short = 'n', long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Only these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kind: Vec<ProbeChoice>,
    /// Ask nobody: show what the agent's last probes told, as it keeps it over restarts
    #[arg(long, conflicts_with = "count")]
    pub last: bool,
}

/// The kinds of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeChoice {
    /// The list of models
    Models,
    /// A streamed completion; costs tokens
    Chat,
    /// One embedding; costs tokens
    Embeddings,
    /// GET of a health path
    Http,
    /// The server's own figures of its load
    Metrics,
    /// How long the server's certificate is valid
    Certificate,
}

impl ProbeChoice {
    /// In the words of probes.
    pub fn as_probe(self) -> ProbeKind {
        match self {
            Self::Models => ProbeKind::Models,
            Self::Chat => ProbeKind::Chat,
            Self::Embeddings => ProbeKind::Embeddings,
            Self::Http => ProbeKind::Http,
            Self::Metrics => ProbeKind::Metrics,
            Self::Certificate => ProbeKind::Certificate,
        }
    }
}

/// `key …`
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Which keys serve, rest or were rejected; never a key itself
    List,
    /// Ask for each key whether it works, by a probe that costs nothing
    Test {
        /// BACKEND or BACKEND/SERVER; default: all
        #[arg(value_name = "BACKEND[/SERVER]")]
        target: Option<String>,
    },
}

/// `client …`
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Make a key for a new client and print it, this once; the file `clients` keeps its digest. Or take its certificate
    Add {
        /// What the client is called in logs and limits
        #[arg(value_parser = parse_name)]
        name: Name,
        /// What it may do: the name in `[plan.NAME]`
        #[arg(long, value_parser = parse_name)]
        plan: Name,
        /// Instead of a key: the PEM file of the certificate that it shows, of which the digest is kept
        #[arg(long, value_name = "FILE")]
        certificate: Option<Utf8PathBuf>,
    },
    /// Who may ask, with which plan; never a key itself
    List,
    /// Take a client's keys away at once
    Revoke {
        /// The client
        #[arg(value_parser = parse_name)]
        name: Name,
    },
    /// Let a client begin its budget anew: what it has spent so far counts no more
    Forgive {
        /// The client
        #[arg(value_parser = parse_name)]
        name: Name,
    },
    /// Make a new key for a client and print it, this once; the one before is good for a while
    Rotate {
        /// The client
        #[arg(value_parser = parse_name)]
        name: Name,
        /// How long the key before is good; 0s: no longer
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        keep: Duration,
        /// Also where a key before is still good, which ends then
        #[arg(long)]
        force: bool,
    },
}

/// `vip …`
#[derive(Clone, Debug, Subcommand)]
pub enum VipCommand {
    /// Show who owns which address, on all nodes; exit code 1 where not exactly one does or the nodes differ
    Status,
    /// Move addresses to other nodes without losing a request, before this node is taken down; kept until `reclaim`
    Release {
        /// The names in `[vip.NAME]`; default: all
        #[arg(value_name = "NAME", value_parser = parse_name)]
        names: Vec<Name>,
        /// Then wait for the streams that are left here, at most so long: 10m
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        drain: Option<Duration>,
        /// Also where no other node is known to be able to take them
        #[arg(long)]
        force: bool,
    },
    /// Take addresses back to this node
    Reclaim {
        /// The names in `[vip.NAME]`; default: all
        #[arg(value_name = "NAME", value_parser = parse_name)]
        names: Vec<Name>,
    },
}

/// `server …`
#[derive(Clone, Debug, Subcommand)]
pub enum ServerCommand {
    /// Finish what it has, take nothing new
    Drain(ServerTarget),
    /// Into service again: ends what was said before, and overrules a file that says drain or maint
    Ready(ServerTarget),
    /// Out of service
    Maint(ServerTarget),
    /// Set the weight, over the file and over health
    Weight {
        /// Which server
        #[command(flatten)]
        target: ServerTarget,
        /// 0 to 256
        #[arg(value_parser = parse_weight)]
        weight: Weight,
    },
}

/// Which server, and for how long.
#[derive(Args, Clone, Debug)]
pub struct ServerTarget {
    /// BACKEND/SERVER
    #[arg(value_name = "BACKEND/SERVER", value_parser = parse_server)]
    pub server: ServerId,
    /// Goes back by itself after this time, 1s to 24d: 30m, 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = period)]
    pub period: Option<Duration>,
}

impl ServerCommand {
    /// Which server, the administrative state and the weight that are asked for.
    pub fn meaning(&self) -> (&ServerTarget, Option<AdminState>, Option<Weight>) {
        match self {
            Self::Drain(target) => (target, Some(AdminState::Drain), None),
            Self::Ready(target) => (target, Some(AdminState::Ready), None),
            Self::Maint(target) => (target, Some(AdminState::Maint), None),
            Self::Weight { target, weight } => (target, None, Some(*weight)),
        }
    }
}

/// `demo`
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Where HAProxy listens for clients
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The statistics page
    #[arg(long, default_value = "127.0.0.1:8404", value_name = "ADDRESS:PORT")]
    pub stats: SocketAddr,
    /// The first mock's port; the others follow
    #[arg(long, default_value_t = 9001, value_name = "PORT")]
    pub mock_port: u16,
    /// The HAProxy to run
    #[arg(long, default_value = "haproxy", value_name = "BINARY")]
    pub haproxy: Utf8PathBuf,
    /// Keep the files here instead of a temporary directory that goes away
    #[arg(long, value_name = "DIR")]
    pub dir: Option<Utf8PathBuf>,
}

/// `mock`
#[derive(Args, Clone, Debug)]
pub struct Mock {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Where faults are switched; default: the next port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub control: Option<SocketAddr>,
    /// Its name, which every answer carries
    #[arg(long, default_value = "mock")]
    pub name: String,
    /// The Bearer key that it wants; default: any
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// A model that it serves; may be given more than once
    #[arg(long = "model", value_name = "MODEL", default_values_t = [String::from("gpt-4o"), String::from("gpt-4o-mini")])]
    pub models: Vec<String>,
    /// Time to the first token
    #[arg(long, default_value = "50ms", value_parser = duration)]
    pub first_token: Duration,
    /// Tokens a second after the first one
    #[arg(long, default_value_t = 50.0, value_name = "RATE")]
    pub tokens_per_second: f64,
    /// Tokens of an answer
    #[arg(long, default_value_t = 16, value_name = "COUNT")]
    pub tokens: u32,
    /// Prompts that it keeps in its cache; its `usage` tells how much of a prompt was there
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub cached_prompts: u32,
    /// Speak TLS with a certificate of its own authority
    #[arg(long)]
    pub tls: bool,
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|e| e.to_string())
}

fn parse_server(text: &str) -> Result<ServerId, String> {
    text.parse::<ServerId>().map_err(|e| e.to_string())
}

fn parse_weight(text: &str) -> Result<Weight, String> {
    let number = text.parse::<u16>().map_err(|_| format!("a weight lies between 0 and {}", Weight::MAX))?;
    Weight::new(number).map_err(|e| e.to_string())
}

fn trial(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let longest = Duration::from_secs(7 * 86_400);
    if length < Duration::from_secs(1) || length > longest {
        return Err("a trial lasts 1s to 7d".to_owned());
    }
    Ok(length)
}

fn period(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < Duration::from_secs(1) {
        return Err("it lasts 1s to 24d; without `--for` it holds until you take it back".to_owned());
    }
    Ok(length)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
