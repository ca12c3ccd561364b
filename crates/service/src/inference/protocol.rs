//! What the service and `outcrop generate-worker` say to each other: one JSON value a line, orders on the worker's
//! standard input, what it tells on its standard output. A worker loads its model, tells `loaded`, and takes one order
//! at a time; it ends when its input does.

use serde::{Deserialize, Serialize};

/// A line to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Generate.
    Generate(Ask),
    /// Tell how many tokens the prompt has.
    Count(Prompt),
    /// End the text where it is; told as `done`.
    Cancel,
}

/// One text to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// What to go on from.
    pub prompt: Prompt,
    /// Most new tokens.
    pub max_tokens: u64,
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Nucleus: over 0, at most 1.
    pub top_p: f64,
    /// Only so many of the likeliest tokens.
    pub top_k: Option<u64>,
    /// Seed of the choices.
    pub seed: u64,
    /// Texts that end the generation and aren't told.
    pub stop: Vec<String>,
}

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A text as it is.
    Text(String),
    /// A conversation that the user spoke last in, laid out by the model's chat template.
    Conversation {
        /// The system prompt.
        system: Option<String>,
        /// Turns in order.
        turns: Vec<Turn>,
    },
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose.
    pub role: Role,
    /// Its texts.
    pub texts: Vec<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// A line from the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The model is in memory.
    Loaded,
    /// The order was understood; the prompt has so many tokens. All there is to say of a count.
    Begun {
        /// Tokens of the prompt.
        input_tokens: u64,
    },
    /// More of the text, whole characters.
    Text(String),
    /// The text is complete.
    Done {
        /// Why it ends.
        finish: Finish,
        /// Tokens that were made.
        output_tokens: u64,
    },
    /// The order can't be carried out as it is: the caller's fault.
    Refused(String),
    /// The order or the loading failed: not the caller's fault.
    Failed(String),
}

/// Why a text ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it.
    End,
    /// One of the order's texts came.
    StopText(String),
    /// It has the most tokens that were asked for.
    Length,
    /// The context is full.
    Context,
    /// It was cancelled.
    Cancelled,
}
