//! A chat template: the Jinja program of a tokenizer that lays a conversation out as text, rendered as `transformers` renders it.
//!
//! The environment is that of transformers' `utils/chat_template_utils.py`: `trim_blocks`, `lstrip_blocks`, `break` and `continue`,
//! `raise_exception`, `tojson` as Python writes JSON, the methods of Python's strings and dicts, `{% generation %}` as a plain block.
//! One difference, so that a conversation has the same tokens on every day, in training and in generation: `strftime_now` tells a fixed
//! day. A template is a program of whoever made the base: its steps and its output are bounded, the memory of its variables is not.
//! Left out: tools and documents. Which tokens are targets is the business of `chat`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, context};
use regex::Regex;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The day that `strftime_now` tells: the one that Llama 3's template falls back on where it can't ask.
const TODAY: jiff::civil::Date = jiff::civil::date(2024, 7, 26);
/// Most steps of a rendering: some thousand times what a conversation of ten turns takes, and under a second.
const MAX_STEPS: u64 = 5_000_000;
/// Longest text that is rendered.
const MAX_BYTES: usize = 64 << 20;
const NAME: &str = "chat template";

/// One message as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

/// A compiled chat template with the special tokens that it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like.
    special_tokens: BTreeMap<String, String>,
}

/// Why a template can't be compiled, or doesn't take a conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatTemplateError {
    /// It isn't Jinja.
    #[error("the chat template can't be compiled: {0}; correct it, or name another file")]
    Syntax(String),
    /// It called `raise_exception`, or what it does is an error.
    #[error("the chat template refuses the conversation: {0}")]
    Refused(String),
    /// It doesn't come to an end.
    #[error("the chat template does not come to an end within {MAX_STEPS} steps; use another one")]
    Endless,
    /// It writes too much.
    #[error("the chat template makes more than {MAX_BYTES} bytes of a conversation; use another one")]
    TooLong,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are the variables that hold the tokenizer's special tokens, such as `eos_token`.
    /// Errors: it isn't Jinja.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, ChatTemplateError> {
        let mut environment = Environment::new();
        let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(whitespace.map_err(|error| ChatTemplateError::Syntax(told(&error)))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(write_as_python);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| ChatTemplateError::Syntax(told(&error)))?;
        Ok(Self { source: source.to_owned(), environment, special_tokens })
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Everything that shapes what it renders, for keys (R22).
    pub(crate) fn identity(&self) -> (&str, &BTreeMap<String, String>) {
        (&self.source, &self.special_tokens)
    }

    /// The text of a conversation; with the generation prompt it ends where the assistant's next turn begins.
    /// Errors: the template refuses the conversation, doesn't end, or writes without end.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let template = self.environment.get_template(NAME).map_err(|error| ChatTemplateError::Syntax(told(&error)))?;
        let special = Value::from(Serde(&self.special_tokens));
        let messages = Value::from(Serde(messages));
        let (tools, documents) = ((), ());
        let context = context! { messages, add_generation_prompt, tools, documents, ..special };
        let mut text = Bounded(Vec::new());
        let rendered = template.render_captured_to(context, &mut text).map(|_| ());
        match rendered {
            Ok(()) => Ok(String::from_utf8_lossy(&text.0).into_owned()),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => Err(ChatTemplateError::Endless),
            Err(error) if error.kind() == ErrorKind::WriteFailure => Err(ChatTemplateError::TooLong),
            Err(error) => Err(ChatTemplateError::Refused(told(&error))),
        }
    }
}

/// Text in memory, up to a length.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// transformers' own extension marks the assistant's words for its masks and renders what is in it as it stands.
fn without_generation_blocks(source: &str) -> String {
    static BEGIN: LazyLock<Regex> = LazyLock::new(|| pattern("generation"));
    static END: LazyLock<Regex> = LazyLock::new(|| pattern("endgeneration"));
    let source = BEGIN.replace_all(source, "{%$1 if true $2%}");
    END.replace_all(&source, "{%$1 endif $2%}").into_owned()
}

fn pattern(tag: &str) -> Regex {
    Regex::new(&format!(r"\{{%([-+]?)\s*{tag}\s*([-+]?)%\}}")).expect("the pattern is sound")
}

/// What an error says, with the line of the template.
fn told(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// Truth values and `none` as Python prints them.
fn write_as_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Python's `json.dumps` with `ensure_ascii=False`.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // other ways to write JSON are not read by any template that is known, and must not be passed over
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    // by way of serde_json's own value: it keeps the order of keys
    let value = serde_json::to_value(value).map_err(failed)?;
    let mut json = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(64));
            value.serialize(&mut Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(spaces.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, OneLine)),
    }
    .map_err(failed)?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// Spaces behind commas and colons, as Python puts them.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The fixed day in a template's own form.
fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, TODAY.at(0, 0, 0, 0))
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}")))
}
