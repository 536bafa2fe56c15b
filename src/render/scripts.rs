//! The programs in Lua that the built-in templates load.
//!
//! They are part of hapilot, not of what an operator writes. Called by `render`.

use crate::cfg;
use crate::model::Digest;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const MODEL: &str = include_str!("../../templates/lua/model.lua");

/// The directory beside haproxy.cfg.
const DIRECTORY: &str = "hapilot-lua";

/// Finds the model of a request.
static MODEL_PATH: LazyLock<String> = LazyLock::new(|| format!("{DIRECTORY}/model.{}.lua", Digest::of(MODEL).short()));

/// How haproxy.cfg names the program that finds the model. HAProxy loads it once for each thread, and the later times
/// it is no longer in the directory of the configuration: the path is a whole one.
pub(super) fn model_path(config: &Utf8Path) -> Utf8PathBuf {
    config.with_file_name(MODEL_PATH.as_str())
}

/// The text of haproxy.cfg for a copy of the files in another directory than that of `config`.
pub fn moved(haproxy_cfg: &str, config: &Utf8Path, directory: &Utf8Path) -> String {
    let (from, to) = (config.with_file_name(DIRECTORY), directory.join(DIRECTORY));
    haproxy_cfg.replace(&format!("{from}/model."), &format!("{to}/model."))
}

/// Those that the rendered text loads.
pub(super) fn used(haproxy_cfg: &str) -> BTreeMap<String, &'static str> {
    let path = MODEL_PATH.as_str();
    let mut lines = cfg::lines(haproxy_cfg).filter(|line| line.text.contains(path));
    let is_used = lines.any(|line| line.words().any(|word| word.has(path)));
    is_used.then(|| (MODEL_PATH.clone(), MODEL)).into_iter().collect()
}
