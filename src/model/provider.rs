//! The kinds of AI backend that hapilot knows by itself: their names. What each means is a [`Profile`](super::Profile).

use super::Refused;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a built-in profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI or anything that speaks its API.
    #[default]
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Azure OpenAI, by deployment.
    Azure,
    /// Amazon Bedrock's runtime, with an API key.
    Bedrock,
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
    /// NVIDIA Triton's inference protocol.
    Triton,
    /// Any HTTP server; no AI probe.
    Http,
}

impl Provider {
    /// Every one, in the order in which messages list them.
    pub const ALL: [Self; 12] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Gemini,
        Self::Azure,
        Self::Bedrock,
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::Ollama,
        Self::LlamaCpp,
        Self::Triton,
        Self::Http,
    ];

    /// Their words, in the same order.
    pub const NAMES: [&str; 12] = {
        let mut names = [""; 12];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// The word in the operator's file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llamacpp",
            Self::Triton => "triton",
            Self::Http => "http",
        }
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
