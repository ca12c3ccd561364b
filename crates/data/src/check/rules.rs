//! The table of everything a check can find: its id, the rule it keeps, how bad it is, and what to do about it.
//!
//! An id never changes its meaning. Where a rule of the engine (R-number) stands behind a finding, `rule` names it; otherwise
//! `rule` is the id itself.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Training would refuse the data, or its result would be worthless.
    Error,
    /// Training runs, but the result is likely to suffer, or something private is inside.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that can be found.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its own name, in lower case and hyphens.
    pub id: &'static str,
    /// The engine's rule behind it, such as `R7`; the id where there is none.
    pub rule: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! rules {
    ($($name:ident $level:ident $id:literal $rule:literal $title:literal $advice:literal;)*) => {
        $(pub(crate) static $name: Rule = Rule {
            id: $id,
            rule: if $rule.is_empty() { $id } else { $rule },
            level: Level::$level,
            title: $title,
            advice: $advice,
        };)*
        /// Every rule, in the order of the report.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    // structure
    UNREADABLE Error "unreadable" "R20" "files that can't be read" "check the path and its permissions";
    EMPTY_FILE Error "empty-file" "R20" "files without a record" "fill them or take them out";
    NOT_UTF8 Error "not-utf8" "R20" "bytes that are not UTF-8" "save the file as UTF-8";
    LONG_LINE Error "long-line" "R20" "lines too long to be a record" "write one record a line";
    BLANK_LINE Error "blank-line" "R20" "blank lines" "remove them";
    NOT_JSON Error "not-json" "R20" "lines that are not one JSON object" "write one whole JSON object a line";
    DOUBLE_KEY Error "double-key" "R20" "keys that appear twice in a record" "keep one of them";
    WRONG_KEYS Error "wrong-keys" "R20" "records of no known format"
        "use `prompt` and `completion`, `schemaVersion` and `messages`, `messages`, or `input`";
    WRONG_TYPE Error "wrong-type" "R20" "values of the wrong type" "make them what the format asks for";
    SCHEMA_VERSION Error "schema-version" "R20" "conversations without the right `schemaVersion`"
        "write \"schemaVersion\": \"bedrock-conversation-2024\"";
    SYSTEM Error "system" "R20" "system prompts that the format doesn't take"
        "give one text in `system`, beside `messages` and not among them";
    ROLES Error "roles" "R20" "roles out of order" "begin with user, alternate, end with assistant";
    EMPTY_CONTENT Error "empty-content" "R20" "messages without text" "give each message a text";
    TURN_MARKER Error "turn-marker" "R20" "texts with `\\nHuman:` or `\\nAssistant:` inside"
        "Claude's format reserves these; change them";
    MIXED_FORMATS Error "mixed-formats" "R20" "records of different formats together" "split them into one input per format";
    EMPTY_PROMPT Warning "empty-prompt" "" "empty prompts" "give a prompt, or use `input` records for raw text";
    EMPTY_COMPLETION Error "empty-completion" "R7" "empty completions: nothing to train"
        "remove these records, or allow them with allowEmptyCompletions";
    EXTRA_KEYS Note "extra-keys" "" "keys that training doesn't use" "nothing to do, unless a name is misspelt";
    NAMED_AS_TEXT Warning "named-as-text" "" "text files that hold JSON records: they would be trained as text"
        "name them `.jsonl`";
    BYTE_ORDER_MARK Note "byte-order-mark" "" "files that begin with a byte order mark" "nothing to do: it is skipped";
    // profile
    PROFILE_FORMAT Error "profile-format" "" "records of a format that the model doesn't take" "use the format of the profile";
    PROFILE_RECORDS Error "profile-records" "" "too few or too many records for the model"
        "change the number of records";
    PROFILE_TOKENS Error "profile-tokens" "" "records over the model's limit of tokens, at 6 characters a token" "shorten them";
    PROFILE_BYTES Error "profile-bytes" "" "files larger than the model takes" "make them smaller";
    PROFILE_SETTING Error "profile-setting" "" "settings outside the model's ranges" "change them in the job request";
    // tokens
    OUTSIDE_VOCABULARY Error "outside-vocabulary" "R29" "texts with tokens that the model doesn't have"
        "use the tokenizer that belongs to the model";
    LONG_WORD Error "long-word" "R20" "words too long to be text" "take them out or break them up";
    NOT_TOKENIZED Error "not-tokenized" "R20" "texts that the tokenizer fails on" "change them, or use another base";
    BOUNDARY Error "boundary" "R6" "prompt and completion share a token" "let the two meet between words";
    CHAT_TEMPLATE Error "chat-template" "R6" "conversations that no chat template lays out as training needs it"
        "name a template file that fits them";
    MOVED_SPACE Note "moved-space" "R6" "spaces that end the prompt and move to the completion"
        "nothing to do: training and generation agree";
    TOO_LONG Error "too-long" "R11" "records longer than the context"
        "shorten them, or name a policy with longRecords";
    CUT_TEXT Note "cut-text" "R11" "texts longer than a row: they are cut into rows" "nothing to do: no token is lost";
    NO_TARGET Error "no-target" "R7" "records without a target token" "remove them";
    NO_STOP Error "no-stop" "R8" "completions that don't end with a trained stop token"
        "shorten the records so that their end isn't lost";
    SPELLED_STOP Warning "spelled-stop" "R8" "texts that spell out the end token" "remove it: the engine adds its own";
    DOUBLE_BOS Error "double-bos" "R9" "texts that begin with more than one begin token" "remove it from the text";
    SPELLED_BOS Warning "spelled-bos" "R9" "texts that spell out the begin token" "remove it: the engine adds it where it belongs";
    MISSING_BOS Error "missing-bos" "R9" "texts without the begin token that the tokenizer adds" "report this";
    FEW_TARGETS Warning "few-targets" "R5" "few of the tokens are targets"
        "expect little to be learnt a token; shorten the prompts if you can";
    // duplicates
    DUPLICATE Warning "duplicate" "" "records that repeat an earlier one exactly" "remove them, unless the weight is meant";
    NEAR_DUPLICATE Warning "near-duplicate" "" "records nearly the same as an earlier one (Jaccard at least 0.8)"
        "look at them and remove what adds nothing";
    NEAR_LIMIT Warning "near-limit" "" "records beyond the bound of the near-duplicate search" "raise --near-memory";
    TWO_COMPLETIONS Warning "two-completions" "" "prompts with different completions"
        "decide for one, unless several are right";
    COMPLETION_IS_PROMPT Warning "completion-is-prompt" "" "completions that repeat their prompt" "remove or correct them";
    // leakage
    LEAK_PROMPT Error "leak-prompt" "" "evaluation records whose prompt is in the training data" "remove them from one side";
    LEAK_GRAM Warning "leak-13-gram" "" "evaluation records that share 13 words in a row with training data"
        "remove them from one side";
    LEAK_LIMIT Warning "leak-limit" "" "evaluation texts beyond the bound of the search for shared 13-grams"
        "check the evaluation files in parts";
    LEAK_NEAR Warning "leak-near" "" "evaluation records nearly the same as a training record"
        "keep near-duplicates on one side: `outcrop data split` does";
    // labels
    LABEL_BALANCE Warning "label-balance" "" "labels out of balance" "add records of the rare ones, or weigh accuracy by label";
    LABEL_RARE Warning "label-rare" "" "labels with too few records to learn" "add records, or merge them with others";
    LABEL_LOOK_ALIKE Warning "label-look-alike" "" "labels that differ only in case, space or punctuation" "write them alike";
    LABEL_DISAGREES Warning "label-disagrees" "" "records whose label differs from their near-duplicates'"
        "look at them: one of the labels is likely wrong";
    // personal data
    PERSONAL_EMAIL Warning "personal-email" "" "e-mail addresses" "`outcrop data scrub` replaces them";
    PERSONAL_PHONE Warning "personal-phone" "" "phone numbers" "`outcrop data scrub` replaces them";
    PERSONAL_CARD Warning "personal-card" "" "payment card numbers" "`outcrop data scrub` replaces them";
    PERSONAL_IBAN Warning "personal-iban" "" "bank accounts (IBAN)" "`outcrop data scrub` replaces them";
    PERSONAL_IP Warning "personal-ip" "" "public IP addresses" "`outcrop data scrub` replaces them";
    PERSONAL_ID Warning "personal-id" "" "national identifiers" "`outcrop data scrub` replaces them";
    SECRET_KEY Warning "secret-private-key" "" "private keys" "revoke them; `outcrop data scrub` replaces them";
    SECRET_API Warning "secret-api-key" "" "API keys and tokens" "revoke them; `outcrop data scrub` replaces them";
    // quality
    DAMAGED Warning "text-damaged" "" "texts with damaged encoding" "decode them again from the source";
    CONTROL Warning "text-control" "" "texts with control characters" "remove these";
    BOILERPLATE Warning "text-boilerplate" "" "lines that stand in many documents" "remove them: they teach nothing but themselves";
    REPEATS Warning "text-repeats" "" "documents that repeat their own lines (over 30 % of them)" "remove the repetitions";
    LANGUAGE Note "text-language" "" "records in another language than most" "nothing to do, if they are meant";
    TOO_SHORT Warning "text-short" "" "documents of under 50 words" "join or remove them";
    VERY_LONG Note "text-very-long" "" "documents of over 100,000 words" "nothing to do, if they are books";
    WORD_LENGTH Warning "text-word-length" "" "documents whose mean word is under 3 or over 10 characters"
        "look at them: tables, code or noise";
    SYMBOLS Warning "text-symbols" "" "documents with more than one `#` or ellipsis per ten words" "look at them";
    BULLETS Warning "text-bullets" "" "documents of bullets (over 90 % of the lines)" "look at them: lists or menus";
    ELLIPSES Warning "text-ellipses" "" "documents whose lines end in an ellipsis (over 30 %)" "look at them: teasers, not texts";
    FEW_LETTERS Warning "text-few-letters" "" "documents in which under 80 % of the words have a letter"
        "look at them: tables or numbers";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_rules_are_named() {
        let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
        assert_eq!((EMPTY_COMPLETION.rule, DUPLICATE.rule), ("R7", "duplicate"));
    }
}
