//! Everything that is read before a decision: the operator's file, templates, secrets, certificates.
//!
//! Reads, never writes. Called by the agent's loop and by commands that work alone.

use super::alert_secrets;
use super::callers;
use super::certificates::{self, CertificateProblem};
use super::key_texts::{self, Flaw};
use super::standing::stand_ins;
use super::trust::{self, Trust};
use super::unread::{SecretUse, Unread};
use crate::agent::tell::refusal::{At, Objection, Refusal};
use crate::config::{self, Clients, Config, Diagnostics, Heartbeat, ServerTls};
use crate::model::{Certificate, Digest, Name, Secret, SecretRef, Sourced, TrustFile, TrustKind};
use crate::probe::ClientCertificate;
use crate::render::Templates;
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Largest operator's file and template, in bytes.
pub(super) const MAX_FILE: u64 = 4 << 20;
/// So many of those that share a secret are named.
const MAX_OWNERS: usize = 5;

/// Which file, and for which node.
#[derive(Clone, Debug)]
pub struct Place {
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// `--node`.
    pub node: Option<Name>,
    /// `--socket`.
    pub socket: Option<Utf8PathBuf>,
    /// Where the state is, where the running agent told it; `None`: where the file says.
    pub state: Option<Utf8PathBuf>,
    /// What is done with the secrets that the file refers to.
    pub secrets: SecretUse,
}

/// A file that was read and understood, with all that it refers to.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// The operator's file as text.
    pub toml: String,
    /// Of that text.
    pub digest: Digest,
    /// The same as values.
    pub config: Arc<Config>,
    /// The operator's own root template or the built-in one.
    pub templates: Templates,
    /// Values of the secrets that the file refers to.
    pub secrets: BTreeMap<SecretRef, Secret>,
    /// Those that could not be read: something stands in their place.
    pub unread: Vec<Unread>,
    /// Every client, of the operator's file and of the clients' own.
    pub clients: Arc<Clients>,
    /// Why the clients' file is not what serves.
    pub clients_problem: Option<Refusal>,
    /// The certificates that frontends name.
    pub certificates: BTreeMap<Utf8PathBuf, Vec<Certificate>>,
    /// What frontends judge the certificates of clients by.
    pub trust: Arc<BTreeMap<(TrustKind, Utf8PathBuf), TrustFile>>,
    /// Certificates and the like that cannot be served. The last good ones stand in for them.
    pub certificate_problems: Vec<CertificateProblem>,
    /// Our own certificates towards servers.
    pub client_certificates: BTreeMap<Utf8PathBuf, ClientCertificate>,
    /// PEM texts of the authorities that servers name.
    pub authorities: BTreeMap<Utf8PathBuf, String>,
    /// What is unwise but not wrong.
    pub lint: Diagnostics,
    /// What was found beside the file and is unwise but not wrong.
    pub warnings: Vec<String>,
    /// Variables of this process that are others by now where they come from.
    pub outdated: Vec<Objection>,
}

/// Why the sources cannot be used; nothing was changed.
#[derive(Debug)]
pub enum SourcesError {
    /// The file cannot be read.
    Read(Objection),
    /// The file has mistakes.
    Mistakes {
        /// All of them.
        diagnostics: Box<Diagnostics>,
    },
    /// What the file refers to cannot be read; each with its place in the file.
    References(Vec<Objection>),
    /// The clients' file cannot be served.
    Clients(Box<Refusal>),
    /// Nothing is wrong but that this process may not read these secrets; each with its place in the file.
    Secrets(Vec<Objection>),
}

impl SourcesError {
    /// The same for who asked.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Mistakes { diagnostics } => Refusal::mistakes(Diagnostics::clone(diagnostics)),
            Self::Clients(refusal) => Refusal::clone(refusal),
            Self::Read(objection) => Refusal::from(objection.clone()).help("-c FILE, or HAPILOT_CONFIG, names the file"),
            Self::References(objections) => Refusal::of(objections.iter().cloned()),
            Self::Secrets(objections) => Refusal::of(objections.iter().cloned())
                .help(
                    "the agent's unit takes env: from /etc/default/hapilot (EnvironmentFile=) and credential: from \
                     LoadCredential=; a new one is there after `systemctl restart hapilot`",
                )
                .help(
                    "where no agent runs, a command can be given them: `env NAME=VALUE hapilot …`, for a file `sudo -u USER \
                     hapilot …`",
                ),
        }
    }
}

impl std::fmt::Display for SourcesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.refusal())
    }
}

impl std::error::Error for SourcesError {}

impl Place {
    /// A command of the command line for this file, as the operator would type it.
    pub fn command(&self, words: &str) -> String {
        match self.file.as_str() {
            "/etc/hapilot/hapilot.toml" => format!("hapilot {words}"),
            file => format!("hapilot -c {file} {words}"),
        }
    }

    /// The same for who looks and hands no secret on.
    pub fn using(&self, secrets: SecretUse) -> Self {
        Self { secrets, ..self.clone() }
    }

    /// The operator's file as far as it can be read, for the little that a broken one still tells. Never waits and never
    /// reads on and on, whatever the path leads to.
    pub fn glance(&self) -> String {
        let bytes = sys::files::read_limited(&self.file, MAX_FILE).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the running agent is asked: as the command line says, else as the file does. What cannot be read, be it a
    /// FIFO, a directory or a loop of links, tells nothing: then a socket beside it, else the usual one.
    pub fn agent_socket(&self) -> Utf8PathBuf {
        let told = self.socket.clone().or_else(|| config::peek(&self.glance(), "api", "socket").map(Utf8PathBuf::from));
        let beside = || sys::files::directory_of(&self.file).join("hapilot.sock");
        let guess = || (self.digest().is_none() && beside().exists()).then(beside);
        told.or_else(guess).unwrap_or_else(|| config::DEFAULT_SOCKET.into())
    }

    /// Of the file as it stands; `None` where it cannot be read.
    pub fn digest(&self) -> Option<Digest> {
        sys::files::read_limited(&self.file, MAX_FILE).ok().map(Digest::of)
    }

    /// Where the state is, as far as a broken file tells.
    pub fn state_directory(&self) -> Utf8PathBuf {
        let told = self.state.clone();
        let told = told.or_else(|| config::peek(&self.glance(), "node", "state").map(Utf8PathBuf::from));
        told.unwrap_or_else(|| config::DEFAULT_STATE.into())
    }

    /// Reads the operator's file and everything that it refers to.
    ///
    /// # Errors
    /// All mistakes at once; the caller keeps serving what it has.
    pub fn load(&self) -> Result<Sources, SourcesError> {
        let bytes =
            sys::files::read_limited(&self.file, MAX_FILE).map_err(|e| SourcesError::Read(Objection::new(e)))?;
        let toml = String::from_utf8(bytes).map_err(|e| {
            let breaks = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            let at = At::line(&self.file, u32::try_from(breaks + 1).unwrap_or(u32::MAX));
            SourcesError::Read(Objection::new("the file is not UTF-8").at(at))
        })?;
        self.understand(toml)
    }

    /// A content of the file as this node's configuration, without what it refers to.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(&self, toml: &str) -> Result<Config, Diagnostics> {
        // A host name that is no text is no name for a node either; the file may still give one.
        let host_name = sys::host_name().unwrap_or_default();
        config::parse_for_node(self.file.as_str(), toml, &host_name, self.node.as_ref())
    }

    /// Files that the operator's file names as it stands, whether or not they can be used: what is mended there lets a
    /// refused file serve. Nothing of a file with mistakes, which has to change itself.
    pub(in crate::agent) fn named_files(&self) -> Vec<Utf8PathBuf> {
        let Ok(config) = self.parse(&self.glance()) else { return vec![] };
        let keys = config.servers().flat_map(|(_, server)| server.keys.iter().map(|key| &key.value));
        let password = config.haproxy.stats.iter().filter_map(|stats| stats.login.as_ref());
        let password = password.map(|(_, password)| &password.value);
        let heartbeat = config.node.heartbeat.iter().map(|heartbeat| &heartbeat.key.value);
        let certificates = config.frontends.iter().flat_map(|frontend| &frontend.certificates);
        let trusted = trust::trusts(&config).flat_map(|(_, trust)| trust.files()).map(|(_, path)| path);
        let of_servers = config.servers().flat_map(|(_, server)| server.tls.ca.iter().chain(&server.tls.certificate));
        let named =
            certificates.chain(trusted).chain(of_servers).chain(&config.haproxy.template).chain(&config.clients_file);
        let named = named.map(|path| path.value.clone());
        secret_files(keys.chain(password).chain(heartbeat)).chain(named).collect()
    }

    /// As [`Self::load`], with a text that stems from elsewhere (an older revision).
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn understand(&self, toml: String) -> Result<Sources, SourcesError> {
        self.understand_with(toml, |_| BTreeMap::new())
    }

    /// The same of a text that was served, at the start of an agent: keys that HAProxy has stand in for those that cannot be
    /// read.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn understand_served(&self, toml: String) -> Result<Sources, SourcesError> {
        self.understand_with(toml, stand_ins)
    }

    fn understand_with(
        &self,
        toml: String,
        stand_ins: impl FnOnce(&Config) -> BTreeMap<SecretRef, Secret>,
    ) -> Result<Sources, SourcesError> {
        let config =
            self.parse(&toml).map_err(|diagnostics| SourcesError::Mistakes { diagnostics: Box::new(diagnostics) })?;
        let stand_ins = stand_ins(&config);
        let lint = config::lint(&config, self.file.as_str(), &toml);
        let mut reader = Reader {
            file: &self.file,
            secrets: self.secrets,
            stand_ins,
            problems: vec![],
            unread: vec![],
            warnings: vec![],
        };
        let (clients, clients_problem) = reader.clients(&config)?;
        let secrets = reader.secrets(&config);
        reader.warnings.extend(alert_secrets::unread(&self.file, &config, self.secrets));
        let outdated = secrets.keys().filter_map(sys::secrets::outdated_variable).map(outdated).collect();
        let (certificates, trust, certificate_problems) = reader.certificates(&config);
        let files = |of: fn(&ServerTls) -> Option<&Sourced<Utf8PathBuf>>| {
            config.servers().filter_map(move |(_, server)| of(&server.tls))
        };
        let authorities = reader.pem_texts(files(|tls| tls.ca.as_ref()), "the authority's certificate");
        let ours = reader.pem_texts(files(|tls| tls.certificate.as_ref()), "our certificate towards the server");
        let client_certificates = ours.into_iter().map(|(path, text)| (path, ClientCertificate(text))).collect();
        let templates = reader.templates(&config);
        let (unread, warnings, mut problems) = (reader.unread, reader.warnings, reader.problems);
        let lacking: Vec<Objection> = match self.secrets {
            SecretUse::Handed | SecretUse::Kept => unread.iter().map(|one| one.told.clone()).collect(),
            SecretUse::Compared | SecretUse::Nothing => vec![],
        };
        match (problems.is_empty(), lacking.is_empty()) {
            (true, true) => {}
            (true, false) => return Err(SourcesError::Secrets(lacking)),
            (false, _) => {
                problems.extend(lacking);
                // What would be told of them next.
                let unserved = certificate_problems.into_iter().filter(|problem| problem.is_unserved);
                problems.extend(unserved.map(|problem| problem.told));
                return Err(SourcesError::References(problems));
            }
        }
        let Some(templates) = templates else { return Err(SourcesError::References(vec![])) };
        let file = self.file.clone();
        Ok(Sources {
            file,
            digest: Digest::of(&toml),
            toml,
            config: Arc::new(config),
            templates,
            secrets,
            unread,
            clients,
            clients_problem,
            certificates,
            trust: Arc::new(trust),
            certificate_problems,
            client_certificates,
            authorities,
            lint,
            warnings,
            outdated,
        })
    }
}

/// The files among the places of secrets.
fn secret_files<'a>(references: impl Iterator<Item = &'a SecretRef>) -> impl Iterator<Item = Utf8PathBuf> {
    references.filter_map(|reference| match reference {
        SecretRef::File(path) => Some(path.clone()),
        SecretRef::Env(_) | SecretRef::Credential(_) => None,
    })
}

impl Sources {
    /// Reads the certificates again; answers whether they are others than before. In the place of one that cannot be
    /// served stays what was served.
    pub fn renew_certificates(&mut self) -> bool {
        let at = |path: &Sourced<Utf8PathBuf>| At::origin(&self.file, path.origin);
        let (found, problems) = certificates::read(&self.config, &self.certificates, jiff::Timestamp::now(), at);
        let (trust, others) = trust::read(&self.config, &self.trust, jiff::Timestamp::now(), at);
        let is_new = found != self.certificates || trust != *self.trust;
        self.certificates = found;
        if trust != *self.trust {
            self.trust = Arc::new(trust);
        }
        self.certificate_problems = problems.into_iter().chain(others).collect();
        is_new
    }

    /// Where the file names the state directory.
    pub(in crate::agent) fn at_state(&self) -> At {
        At::origin(&self.file, self.config.node.state.origin)
    }

    /// Files whose change means that the sources must be read again.
    pub fn watched(&self, file: &Utf8Path) -> Vec<Utf8PathBuf> {
        let secret_files = secret_files(self.secrets.keys());
        let (template, clients) = (&self.config.haproxy.template, &self.config.clients_file);
        let template = template.iter().chain(clients).map(|path| path.value.clone());
        let has_variables = self.secrets.keys().any(|reference| matches!(reference, SecretRef::Env(_)));
        let environment = has_variables.then(|| sys::secrets::environment_file().to_owned());
        let all: BTreeSet<_> = std::iter::once(file.to_owned())
            .chain(template)
            .chain(self.certificates.keys().cloned())
            .chain(self.certificates.values().flatten().flat_map(|one| one.read_from.iter().cloned()))
            .chain(trust::trusts(&self.config).flat_map(|(_, trust)| trust.files()).map(|(_, path)| path.value.clone()))
            .chain(self.authorities.keys().cloned())
            .chain(self.client_certificates.keys().cloned())
            .chain(secret_files)
            .chain(environment)
            .collect();
        all.into_iter().collect()
    }
}

/// What a secret is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SecretPurpose {
    Key,
    Password,
    Heartbeat,
}

/// Reads on after a failure, so that all are reported in one run.
struct Reader<'a> {
    file: &'a Utf8Path,
    secrets: SecretUse,
    /// Of keys that cannot be read.
    stand_ins: BTreeMap<SecretRef, Secret>,
    problems: Vec<Objection>,
    unread: Vec<Unread>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn problem<T>(&mut self, at: &Sourced<T>, text: impl std::fmt::Display) {
        self.problems.push(self.objection(at, text));
    }

    fn objection<T>(&self, at: &Sourced<T>, text: impl std::fmt::Display) -> Objection {
        Objection::new(text).at(At::origin(self.file, at.origin))
    }

    fn secrets(&mut self, config: &Config) -> BTreeMap<SecretRef, Secret> {
        let keys = config.servers().flat_map(|(backend, server)| {
            server.keys.iter().map(move |key| (key, format!("{}/{}", backend.name, server.name), SecretPurpose::Key))
        });
        let password = config.haproxy.stats.iter().filter_map(|stats| stats.login.as_ref());
        let password = password.map(|(_, password)| (password, "[haproxy.stats]".to_owned(), SecretPurpose::Password));
        let heartbeat = config.node.heartbeat.iter();
        let heartbeat =
            heartbeat.map(|heartbeat| (&heartbeat.key, "[node.heartbeat]".to_owned(), SecretPurpose::Heartbeat));
        // Servers that share a secret are named together: it is read, and told, once.
        let mut used: Vec<(&Sourced<SecretRef>, Vec<String>, SecretPurpose)> = Vec::new();
        let mut places: BTreeMap<(&SecretRef, SecretPurpose), usize> = BTreeMap::new();
        for (reference, owner, part) in keys.chain(password).chain(heartbeat) {
            let place = *places.entry((&reference.value, part)).or_insert(used.len());
            match used.get_mut(place) {
                Some((_, owners, _)) => owners.push(owner),
                None => used.push((reference, vec![owner], part)),
            }
        }
        let mut secrets = BTreeMap::new();
        for (reference, owners, part) in used {
            let owner = owners_in_words(&owners);
            match sys::secrets::read_secret(reference) {
                Ok(found) if part == SecretPurpose::Heartbeat && found.secret.expose().len() < Heartbeat::MIN_KEY => {
                    self.problem(
                        reference,
                        format!("a key that nodes share has at least {} bytes", Heartbeat::MIN_KEY),
                    );
                }
                Ok(found) => {
                    let warning = found.warning.map(|warning| format!("{}: {warning}", self.file));
                    self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
                    secrets.insert(reference.value.clone(), found.secret);
                }
                Err(_) if part == SecretPurpose::Key && self.stand_ins.contains_key(&reference.value) => {
                    secrets.extend(self.stand_ins.remove_entry(&reference.value));
                }
                Err(e) if e.is_out_of_reach() || self.secrets == SecretUse::Nothing => {
                    let is_told = self.unread.iter().any(|one| one.reference == reference.value);
                    let told =
                        self.objection(reference, format_args!("{} of {owner}: {}", reference.value, sys::chain(&e)));
                    let (is_key, is_mistake) = (part == SecretPurpose::Key, !e.is_out_of_reach());
                    let unread = Unread { reference: reference.value.clone(), owner, is_key, told, is_mistake };
                    self.unread.extend((!is_told).then_some(unread));
                }
                Err(e) => self.problem(reference, format_args!("{} of {owner}: {}", reference.value, sys::chain(&e))),
            }
        }
        self.judge_keys(config, &secrets);
        self.warnings.extend(equal_keys(self.file, config, &secrets));
        let stands = |one: &Unread| Some((one.reference.clone(), Unread::placeholder(&one.reference)?));
        secrets.extend(self.unread.iter().filter_map(stands));
        secrets
    }

    /// Refuses what can be no provider's key; what is only odd is warned about. Never says the value.
    fn judge_keys(&mut self, config: &Config, secrets: &BTreeMap<SecretRef, Secret>) {
        let mut seen = BTreeSet::new();
        for (backend, server) in config.servers() {
            for key in &server.keys {
                let prefix = &backend.provider.key_prefix;
                let Some(secret) = secrets.get(&key.value).filter(|_| seen.insert((&key.value, prefix))) else {
                    continue;
                };
                match key_texts::flaw(secret.expose(), prefix) {
                    Some(Flaw::Refused(why)) => self.problem(key, format!("the key in {} is no key: {why}", key.value)),
                    Some(Flaw::Odd(why)) => {
                        let odd = self.objection(key, format!("the key in {} is odd: {why}", key.value));
                        self.warnings.push(odd.to_string());
                    }
                    None => {}
                }
            }
        }
    }

    /// The certificates, and what is wrong with them: no reason to stop steering.
    fn certificates(&mut self, config: &Config) -> (certificates::Certificates, Trust, Vec<CertificateProblem>) {
        let now = jiff::Timestamp::now();
        let at = |path: &Sourced<Utf8PathBuf>| At::origin(self.file, path.origin);
        let (found, mut problems) = certificates::read(config, &BTreeMap::new(), now, at);
        let (trust, others) = trust::read(config, &BTreeMap::new(), now, at);
        problems.extend(others);
        self.warnings.extend(certificates::warnings(config, &found, now));
        self.warnings.extend(trust::doubts(config, &trust, now));
        (found, trust, problems)
    }

    /// All clients. In the place of a file of theirs that cannot be served stay those that serve, and no edit waits for it.
    fn clients(&mut self, config: &Config) -> Result<(Arc<Clients>, Option<Refusal>), SourcesError> {
        let (clients, problem) = match callers::read(self.file, config) {
            Ok(clients) => (clients, None),
            Err(refusal) => match callers::serving(config).filter(|_| self.secrets.hands_on()) {
                Some(clients) => (clients, Some(refusal.help("the clients that are known go on as they are"))),
                None => return Err(SourcesError::Clients(Box::new(refusal))),
            },
        };
        if let Some(path) = config.clients_file.as_ref().filter(|_| clients.is_empty()) {
            let told = self.objection(path, format!("{path} has no client: nobody may ask", path = path.value));
            self.warnings.push(told.help("add one: `hapilot client add NAME --plan PLAN`").to_string());
        }
        Ok((Arc::new(clients), problem))
    }

    fn pem_texts<'c>(
        &mut self,
        paths: impl Iterator<Item = &'c Sourced<Utf8PathBuf>>,
        what: &str,
    ) -> BTreeMap<Utf8PathBuf, String> {
        let mut texts = BTreeMap::new();
        for path in paths {
            let text = sys::files::read_limited(path, MAX_FILE).map_err(|e| e.to_string());
            match text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())) {
                Ok(text) => {
                    texts.insert(path.value.clone(), text);
                }
                Err(e) => self.problem(path, format!("{what} cannot be read: {e}")),
            }
        }
        texts
    }

    fn templates(&mut self, config: &Config) -> Option<Templates> {
        let Some(path) = &config.haproxy.template else {
            return Templates::built_in().map_err(|e| self.problems.push(Objection::new(e))).ok();
        };
        let text = sys::files::read_limited(path, MAX_FILE).map_err(|e| e.to_string());
        let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.value)));
        let templates = text.and_then(|text| Templates::with_root(path.as_str(), &text).map_err(|e| e.to_string()));
        let objection = |e: String| {
            let told = self.objection(path, format!("`haproxy.template` cannot be used: {e}"));
            if path.exists() { told } else { told.help("make that file, or leave `template` out for the built-in one") }
        };
        templates.map_err(objection).map_err(|told| self.problems.push(told)).ok()
    }
}

/// `chat/a, chat/b and 3 more`
fn owners_in_words(owners: &[String]) -> String {
    let named = owners.iter().take(MAX_OWNERS).map(String::as_str).collect::<Vec<_>>().join(", ");
    match owners.len().saturating_sub(MAX_OWNERS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// This process goes on with the value of a variable that it was started with.
fn outdated(name: &str) -> Objection {
    let what = format!(
        "{name} is another in {} than what this process was started with, which goes on with the old one",
        sys::secrets::environment_file()
    );
    Objection::notice(what).help("restart it: systemctl restart hapilot (traffic flows on meanwhile)")
}

/// Servers of which two keys are one: where it is rejected, so is the other. Never says which value.
fn equal_keys(file: &Utf8Path, config: &Config, secrets: &BTreeMap<SecretRef, Secret>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (backend, server) in config.servers() {
        let known: Vec<_> = server.keys.iter().filter_map(|key| Some((&key.value, secrets.get(&key.value)?))).collect();
        for (at, (later, value)) in known.iter().enumerate() {
            if let Some((first, _)) = known[..at].iter().find(|(_, other)| other == value) {
                let server = format!("{}/{}", backend.name, server.name);
                warnings.push(format!("{file}: {first} and {later} of server {server} are the same key"));
            }
        }
    }
    warnings
}

/// Path of the live haproxy.cfg, as far as a broken file tells.
pub fn live_config(place: &Place) -> Utf8PathBuf {
    let config = config::peek(&place.glance(), "haproxy", "config");
    Utf8PathBuf::from(config.as_deref().unwrap_or("/etc/haproxy/haproxy.cfg"))
}
