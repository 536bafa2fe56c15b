//! The kinds of AI backend that hapilot knows.

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who answers behind a backend: decides paths, the header that carries the key, and what answers mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI or anything that speaks its API.
    #[default]
    OpenAi,
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// SGLang's OpenAI-compatible server.
    Sglang,
    /// Hugging Face text-generation-inference.
    Tgi,
    /// Ollama's OpenAI-compatible endpoint.
    Ollama,
    /// llama.cpp's server.
    LlamaCpp,
    /// Any HTTP server; no AI probe.
    Http,
}

impl Provider {
    /// Every provider that works today, in the order in which messages list them.
    pub const ALL: [Self; 7] =
        [Self::OpenAi, Self::Vllm, Self::Sglang, Self::Tgi, Self::Ollama, Self::LlamaCpp, Self::Http];

    /// The word in the operator's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llamacpp",
            Self::Http => "http",
        }
    }

    /// Whether it speaks the OpenAI API, so that `models` and `chat` probes make sense.
    pub fn speaks_openai(self) -> bool {
        self != Self::Http
    }

    /// The path below which clients call the API; a server URL without a path means this one.
    pub fn api_root(self) -> &'static str {
        if self.speaks_openai() { "/v1" } else { "" }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Provider {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| Refused::new(format!("a provider is one of {}", Self::ALL.map(Self::as_str).join(", "))))
    }
}
