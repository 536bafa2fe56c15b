//! Thirty routes, and where a request with this path and this model goes: a second, simple reading of the same rules.

use crate::sample::route;
use hapilot::config::Route;

/// Where what no route takes goes.
pub const DEFAULT: &str = "other";

/// Paths, models, backend; in the order of the file.
const ROUTES: [(&[&str], &[&str], &str); 30] = [
    (&["/v1/embeddings"], &[], "embed"),
    (&["/v1/audio", "/v1/images"], &[], "media"),
    (&["/v1/chat"], &["mini-*"], "mini"),
    (&[], &["*-*-*instruct*"], "instruct"),
    (&[], &["*-*coder*", "*-*vision*"], "special"),
    (&[], &["claude-3-5-sonnet"], "sonnet"),
    (&[], &["claude-*"], "claude"),
    (&[], &["gpt-4o"], "gpt4o"),
    (&[], &["gpt-4o-*"], "gpt4x"),
    (&[], &["gpt-*", "o1", "o3"], "gpt"),
    (&[], &["meta/llama-*"], "llama"),
    (&[], &["meta/*"], "meta"),
    (&[], &["modèle"], "french"),
    (&[], &["mod?le"], "wild"),
    (&[], &["qwen-7b", "qwen-14b"], "qwen"),
    (&[], &["qwen-*"], "qwenx"),
    (&["/v1/batches"], &["gemini-*"], "batch"),
    (&[], &["gemini-*"], "gemini"),
    (&[], &["*:free"], "free"),
    (&[], &["a b*"], "blank"),
    (&[], &["#*"], "hash"),
    (&[], &["日本*"], "nihon"),
    (&[], &["*a*a*a*a*a*a*a*b"], "many"),
    (&[], &["ft:*:acme:*"], "tuned"),
    (&[], &["mistral-?", "mistral-??"], "mistral"),
    (&[], &["deepseek-r1"], "deep"),
    (&[], &["deepseek-*"], "deepx"),
    (&["/internal/"], &[], "intern"),
    (&["/internal/x"], &[], "never"),
    (&[], &["phi-*"], "phi"),
];

/// As the configuration has them.
pub fn routes() -> Vec<Route> {
    ROUTES.iter().map(|(paths, models, to)| route(paths, models, to)).collect()
}

/// Every backend once.
pub fn backends() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(_, _, to)| *to).chain([DEFAULT])
}

/// The backend for a decoded path and a model, `None` where there is none.
pub fn leads_to(path: &str, model: Option<&str>) -> &'static str {
    let fits = |(paths, models, _): &&(&[&str], &[&str], &str)| {
        (paths.is_empty() || paths.iter().any(|prefix| path.starts_with(prefix)))
            && (models.is_empty() || model.is_some_and(|model| models.iter().any(|glob| is_match(glob, model))))
    };
    ROUTES.iter().find(fits).map_or(DEFAULT, |(_, _, to)| to)
}

/// Whether a glob fits: the textbook's way, over a table.
pub fn is_match(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for sign in glob {
        let mut next = vec![false; text.len() + 1];
        next[0] = row[0] && sign == '*';
        for at in 0..text.len() {
            next[at + 1] = match sign {
                '*' => row[at + 1] || next[at],
                '?' => row[at],
                other => row[at] && text[at] == other,
            };
        }
        row = next;
    }
    row[text.len()]
}
