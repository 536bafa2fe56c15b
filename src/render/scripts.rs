//! The programs in Lua that the built-in templates load.
//!
//! They are part of hapilot, not of what an operator writes. Called by `render`.

use super::Rendered;
use crate::cfg;
use crate::model::Digest;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The directory beside haproxy.cfg.
const DIRECTORY: &str = "hapilot-lua";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Finds the model of a request.
    Model,
    /// Gives a request the name that its server has for a model. Uses what `Model` defines.
    Rename,
    /// Counts the tokens of an answer.
    Usage,
    /// Notices whether a stream ends as it should.
    Watch,
}

impl Script {
    const ALL: [Self; 4] = [Self::Model, Self::Rename, Self::Usage, Self::Watch];

    const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Rename => "rename",
            Self::Usage => "usage",
            Self::Watch => "watch",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Model => include_str!("../../templates/lua/model.lua"),
            Self::Rename => include_str!("../../templates/lua/rename.lua"),
            Self::Usage => include_str!("../../templates/lua/usage.lua"),
            Self::Watch => include_str!("../../templates/lua/watch.lua"),
        }
    }

    /// Its file, below the directory of haproxy.cfg: another text has another name.
    fn file(self) -> &'static str {
        static FILES: LazyLock<[String; 4]> = LazyLock::new(|| {
            Script::ALL.map(|one| format!("{DIRECTORY}/{}.{}.lua", one.name(), Digest::of(one.text()).short()))
        });
        &FILES[self as usize]
    }

    /// How haproxy.cfg names it. HAProxy loads it once for each thread, and the later times it is no longer in the
    /// directory of the configuration: the path is a whole one.
    pub(super) fn path(self, config: &Utf8Path) -> Utf8PathBuf {
        config.with_file_name(self.file())
    }
}

/// The text of haproxy.cfg for a copy of the files in another directory than that of `config`.
pub fn moved(rendered: &Rendered, config: &Utf8Path, directory: &Utf8Path) -> String {
    let (from, to) = (config.with_file_name(DIRECTORY), directory.join(DIRECTORY));
    let text = Script::ALL.into_iter().fold(rendered.haproxy_cfg.clone(), |text, script| {
        text.replace(&format!("{from}/{}.", script.name()), &format!("{to}/{}.", script.name()))
    });
    rendered
        .trust
        .iter()
        .fold(text, |text, (name, bundle)| text.replace(bundle.path.as_str(), directory.join(name).as_str()))
}

/// Those that the rendered text loads.
pub(super) fn used(haproxy_cfg: &str) -> BTreeMap<String, &'static str> {
    let is_used = |script: &Script| {
        let path = script.file();
        let mut lines = cfg::lines(haproxy_cfg).filter(|line| line.text.contains(path));
        lines.any(|line| line.words().any(|word| word.has(path)))
    };
    Script::ALL.into_iter().filter(is_used).map(|script| (script.file().to_owned(), script.text())).collect()
}
