//! Chat templates against transformers, and what they refuse; which tokens of a conversation are targets, by position (R6 to R9).
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use outcrop_data::{
    ChatError, ChatTemplate, ChatTemplateError, Conversation, ConversationForm, Role, SpecialTokens, TextTokenizer,
    Turn, conversation_text, encode_chat_prompt, encode_conversation, end_of_turn,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Special tokens of the templates here.
const SPECIAL: [&str; 14] = [
    "</s>",
    "<s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|endoftext|>",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/chat_templates")
}

fn expected() -> Value {
    serde_json::from_str(&fs_err::read_to_string(folder().join("expected.json")).unwrap()).unwrap()
}

fn special_tokens() -> BTreeMap<String, String> {
    BTreeMap::from([("bos_token", "<s>"), ("eos_token", "</s>")].map(|(key, value)| (key.into(), value.into())))
}

/// Every byte is a token, and so is every special one; BOS is added where asked.
fn tokenizer(template: &str, add_bos: bool) -> TextTokenizer {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocabulary = alphabet.into_iter().map(|character| character.to_string()).zip(0..).collect();
    let mut tokenizer = Tokenizer::new(BPE::new(vocabulary, vec![]));
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(SPECIAL.map(|text| AddedToken::from(text, true))).unwrap();
    let id = |text: &str| tokenizer.token_to_id(text).unwrap();
    let special = SpecialTokens { bos: Some(id("<s>")), add_bos, eos: id("</s>") };
    let held = TextTokenizer::from_tokenizer(tokenizer, special, 1000).unwrap();
    held.with_chat_template(Some(ChatTemplate::new(template, special_tokens()).unwrap()))
}

fn template(name: &str) -> String {
    fs_err::read_to_string(folder().join(format!("{name}.jinja"))).unwrap()
}

/// The conversation of `expected.json` with its system prompt apart.
fn conversation(messages: &Value) -> Conversation {
    let mut messages = messages.as_array().unwrap().as_slice();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_string();
    let mut system = None;
    if text(&messages[0], "role") == "system" {
        system = Some(text(&messages[0], "content"));
        messages = &messages[1..];
    }
    let turns = messages.iter().map(|message| Turn {
        role: if text(message, "role") == "user" { Role::User } else { Role::Assistant },
        texts: vec![text(message, "content")],
    });
    Conversation { form: ConversationForm::Claude, system, turns: turns.collect() }
}

fn turns(texts: &[&str]) -> Conversation {
    let turns = texts.iter().enumerate().map(|(index, text)| Turn {
        role: if index % 2 == 0 { Role::User } else { Role::Assistant },
        texts: vec![(*text).to_string()],
    });
    Conversation { form: ConversationForm::Claude, system: None, turns: turns.collect() }
}

/// The text, with brackets around its targets.
fn marked(tokenizer: &TextTokenizer, conversation: &Conversation) -> Result<String, ChatError> {
    let example = encode_conversation(tokenizer, conversation)?;
    let mut text = String::new();
    let mut done = 0;
    for (start, end) in &example.targets {
        let part = |from: usize, to: usize| tokenizer.decode(&example.tokens[from..to]).unwrap();
        text += &part(done, *start as usize);
        text += &format!("⟦{}⟧", part(*start as usize, *end as usize));
        done = *end as usize;
    }
    Ok(text + &tokenizer.decode(&example.tokens[done..]).unwrap())
}

fn bare(text: &str) -> String {
    text.replace(['⟦', '⟧'], "")
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let expected = expected();
    let mut compared = 0;
    for (name, texts) in expected["texts"].as_object().unwrap() {
        let template = ChatTemplate::new(&template(name), special_tokens()).unwrap();
        for (title, pair) in texts.as_object().unwrap() {
            let Conversation { system, turns, .. } = conversation(&expected["conversations"][title]);
            let text = |turns: &[Turn], prompt| conversation_text(&template, system.as_deref(), turns, prompt);
            let ours = [text(&turns, false), text(&turns[..turns.len() - 1], true)];
            for (theirs, ours) in pair.as_array().unwrap().iter().zip(ours) {
                match (theirs, ours) {
                    (Value::String(theirs), Ok(ours)) => assert_eq!(ours, *theirs, "{name} {title}"),
                    (theirs, ours) => {
                        let (told, error) = (theirs["error"].as_str().unwrap(), ours.unwrap_err());
                        assert!(error.to_string().contains(told), "{name} {title}: {error}, expected {told}");
                    }
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 80, "ten templates, four conversations, each whole and as a prompt");
}

#[test]
fn what_transformers_renders_can_be_trained_on_but_for_a_system_prompt_that_moves() {
    let expected = expected();
    for (name, texts) in expected["texts"].as_object().unwrap().iter().filter(|(name, _)| *name != "blocks") {
        for (title, pair) in texts.as_object().unwrap() {
            let Some(theirs) = pair[0].as_str() else { continue };
            let marked = marked(&tokenizer(&template(name), false), &conversation(&expected["conversations"][title]));
            match marked {
                Ok(marked) => assert_eq!(bare(&marked), theirs, "{name} {title}"),
                Err(ChatError::Start { message: 1, .. }) if name == "mistral" && title == "system" => {}
                Err(error) => panic!("{name} {title}: {error}"),
            }
        }
    }
}

#[test]
fn r6_r8_the_assistants_turns_are_targets_by_position_with_what_ends_them() {
    let talk = turns(&["Hi <|im_end|>", "A", "And?", "B <|im_end|> x"]);
    let cases = [
        ("chatml", "<|im_start|>assistant\n⟦A<|im_end|>⟧\n", "⟦B <|im_end|> x<|im_end|>⟧\n"),
        ("llama2", "[/INST]⟦ A </s>⟧<s>[INST]", "[/INST]⟦ B <|im_end|> x </s>⟧"),
        ("llama3", "assistant<|end_header_id|>\n\n⟦A<|eot_id|>⟧<|start", "⟦B <|im_end|> x<|eot_id|>⟧"),
        ("mistral", "[INST] Hi <|im_end|>[/INST]⟦ A</s>⟧[INST] And?[/INST]", "⟦ B <|im_end|> x</s>⟧"),
        ("gemma", "<start_of_turn>model\n⟦A<end_of_turn>⟧\n<start", "⟦B <|im_end|> x<end_of_turn>⟧\n"),
        ("qwen2", "<|im_start|>assistant\n⟦A<|im_end|>⟧\n", "⟦B <|im_end|> x<|im_end|>⟧\n"),
        ("phi3", "<|assistant|>\n⟦A<|end|>⟧\n<|user|>", "<|assistant|>\n⟦B <|im_end|> x<|end|>⟧\n</s>"),
        // thinking stands in front of the last turn alone
        ("qwen3", "<|im_start|>assistant\n⟦A<|im_end|>⟧\n", "⟦<think>\n\n</think>\n\nB <|im_end|> x<|im_end|>⟧\n"),
    ];
    for (name, first, last) in cases {
        let text = marked(&tokenizer(&template(name), false), &talk).unwrap();
        assert!(text.contains(first) && text.ends_with(last), "{name}: {text}");
        assert_eq!(text.matches('⟦').count(), 2, "{name}: {text}");
    }
}

#[test]
fn r5_r9_a_prompt_of_generation_is_the_prefix_of_training_and_bos_stands_once() {
    for (name, add_bos, begins) in
        [("chatml", false, 0), ("chatml", true, 1), ("llama3", false, 1), ("llama3", true, 1)]
    {
        let tokenizer = tokenizer(&template(name), add_bos);
        let talk = turns(&["Hi", "A", "And?", "B"]);
        let example = encode_conversation(&tokenizer, &talk).unwrap();
        let bos = tokenizer.encode("<s>").unwrap()[0];
        assert_eq!(example.tokens.iter().filter(|id| **id == bos).count(), begins, "{name} {add_bos}");
        assert_eq!(example.tokens[0] == bos, begins == 1);
        for (turn, (start, end)) in [1, 3].into_iter().zip(&example.targets) {
            let prompt = encode_chat_prompt(&tokenizer, None, &talk.turns[..turn]).unwrap();
            assert_eq!(prompt, example.tokens[..*start as usize], "{name} {add_bos}");
            assert_eq!(end_of_turn(&tokenizer).unwrap(), example.tokens[*end as usize - 1]);
        }
    }
}

#[test]
fn the_texts_of_a_message_stand_on_lines_of_their_own() {
    let mut talk = turns(&["Hi", "A"]);
    talk.turns[1].texts.push("B".into());
    let text = marked(&tokenizer(&template("chatml"), false), &talk).unwrap();
    assert!(text.ends_with("⟦A\nB<|im_end|>⟧\n"), "{text}");
}

#[test]
fn templates_that_loop_throw_write_without_end_or_hide_a_turn_are_refused() {
    let refused = |source: &str, talk: &[&str]| {
        encode_conversation(&tokenizer(source, false), &turns(talk)).unwrap_err().to_string()
    };
    let talk = ["Hi", "A", "And?", "B"];
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
    assert!(refused(endless, &talk).starts_with("the chat template does not come to an end within"));
    let long = "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}";
    assert!(refused(long, &talk).starts_with("the chat template makes more than"));
    assert!(refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", &talk).contains("recursion"));
    let thrown = "\n{{ raise_exception('no ' + messages[0].role) }}";
    let told = "the chat template refuses the conversation: no user (line 2 of the template)";
    assert_eq!(refused(thrown, &talk), told);
    assert!(refused("{{ messages[9].role.x }}", &talk).starts_with("the chat template refuses the conversation: "));
    let error = ChatTemplate::new("{% for %}", BTreeMap::new()).unwrap_err();
    assert!(matches!(error, ChatTemplateError::Syntax(_)), "{error}");

    // what is in front of a turn must be what generation has there
    let moved = "{% for m in messages %}{{ loop.last }}[{{ m.content }}]</s>{% endfor %}{% if add_generation_prompt %}False[{% endif %}";
    assert!(refused(moved, &talk).contains("puts other text in front of `messages[1]`"), "{}", refused(moved, &talk));
    let hidden = "{% for m in messages if m.role == 'user' %}[{{ m.content }}]</s>{% endfor %}";
    assert!(refused(hidden, &talk).contains("leaves the words of `messages[1]` out"), "{}", refused(hidden, &talk));
    let open = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert!(refused(open, &talk).contains("puts no special token behind `messages[1]`"), "{}", refused(open, &talk));
    assert!(encode_conversation(&tokenizer(&template("mistral"), false), &turns(&talk)).is_ok());
}

#[test]
fn a_base_without_a_template_is_told_what_to_do() {
    let none = tokenizer("", false).with_chat_template(None);
    let error = encode_conversation(&none, &turns(&["Hi", "A"])).unwrap_err().to_string();
    assert!(error.starts_with("the base has no chat template; name a template file"), "{error}");
    assert!(matches!(encode_chat_prompt(&none, None, &turns(&["Hi"]).turns), Err(ChatError::NoTemplate)));
}
