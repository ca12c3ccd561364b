//! The aws client's shorthand: `a=1,b={c=x},d=[y,z]` for objects of strings, lists and objects. A word without `=` after
//! a comma goes on with the list of the key before it.

use anyhow::bail;
use serde_json::{Map, Value, json};

/// Deepest nesting; Bedrock's members need three.
const DEEPEST: usize = 16;

/// Reads `key=value,...`. Errors: no such form.
pub(super) fn object(text: &str) -> anyhow::Result<Value> {
    let mut reader = Reader { rest: text, depth: 0 };
    let read = reader.pairs(None)?;
    if reader.rest.is_empty() { Ok(read) } else { bail!("`{}` is left over in `{text}`", reader.rest) }
}

/// Reads one word of a list: an object where it has the form of one, else the word.
pub(super) fn item(text: &str) -> anyhow::Result<Value> {
    if text.starts_with('{') {
        return Ok(serde_json::from_str(text)?);
    }
    if text.contains('=') { object(text) } else { Ok(json!(text)) }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, character: char) -> bool {
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Pairs up to the end, or to `end`, which is taken.
    fn pairs(&mut self, end: Option<char>) -> anyhow::Result<Value> {
        let mut object = Map::new();
        let mut last: Option<String> = None;
        loop {
            let stop = self.rest.find(['=', ',', '}', ']']).unwrap_or(self.rest.len());
            if self.rest[stop..].starts_with('=') {
                let key = self.rest[..stop].trim().to_string();
                if key.is_empty() {
                    bail!("a key is missing before `{}`", self.rest);
                }
                self.rest = &self.rest[stop + 1..];
                let value = self.value()?;
                if object.insert(key.clone(), value).is_some() {
                    bail!("`{key}` is given twice; keep one");
                }
                last = Some(key);
            } else {
                let value = self.value()?;
                let Some(former) = last.as_ref().and_then(|key| object.get_mut(key)) else {
                    bail!("`{}` has no `=`; write `key=value`", value.as_str().unwrap_or_default());
                };
                match former {
                    Value::Array(items) => items.push(value),
                    _ => *former = json!([former.take(), value]),
                }
            }
            if self.take(',') {
                continue;
            }
            return match end {
                Some(end) if self.take(end) => Ok(Value::Object(object)),
                Some(end) => bail!("`{end}` is missing at `{}`", self.rest),
                None => Ok(Value::Object(object)),
            };
        }
    }

    fn value(&mut self) -> anyhow::Result<Value> {
        self.depth += 1;
        if self.depth > DEEPEST {
            bail!("nested deeper than {DEEPEST}");
        }
        let value = if self.take('{') {
            self.pairs(Some('}'))?
        } else if self.take('[') {
            self.list()?
        } else {
            json!(self.word()?)
        };
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> anyhow::Result<Value> {
        let mut items = Vec::new();
        if self.take(']') {
            return Ok(json!(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(']') {
                return Ok(json!(items));
            }
            if !self.take(',') {
                bail!("`]` is missing at `{}`", self.rest);
            }
        }
    }

    /// A word, quoted or up to the next comma or bracket.
    fn word(&mut self) -> anyhow::Result<String> {
        for quote in ['"', '\''] {
            if self.take(quote) {
                let Some((word, rest)) = self.rest.split_once(quote) else { bail!("{quote} isn't closed") };
                self.rest = rest;
                return Ok(word.to_string());
            }
        }
        let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word.trim().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthand_is_the_clients() {
        let read = |text| object(text).unwrap();
        assert_eq!(read("epochCount=1,learningRate=.0001"), json!({"epochCount": "1", "learningRate": ".0001"}));
        assert_eq!(read("s3Uri=s3://bucket/a-b"), json!({"s3Uri": "s3://bucket/a-b"}));
        assert_eq!(
            read("validators=[{s3Uri=s3://bucket/a},{s3Uri=s3://bucket/b}]"),
            json!({"validators": [{"s3Uri": "s3://bucket/a"}, {"s3Uri": "s3://bucket/b"}]})
        );
        assert_eq!(read("subnetIds=a,b,securityGroupIds=c"), json!({"subnetIds": ["a", "b"], "securityGroupIds": "c"}));
        assert_eq!(read("key='a,b',value=\"c d\""), json!({"key": "a,b", "value": "c d"}));
        assert_eq!(item("word").unwrap(), json!("word"));
    }

    #[test]
    fn what_is_no_shorthand_is_refused() {
        for (text, message) in [
            ("word", "`word` has no `=`; write `key=value`"),
            ("a=1,a=2", "`a` is given twice; keep one"),
            ("a=[1", "`]` is missing at ``"),
            ("a={b=1", "`}` is missing at ``"),
            ("a=1}", "`}` is left over in `a=1}`"),
            ("=1", "a key is missing before `=1`"),
            ("a='b", "' isn't closed"),
        ] {
            assert_eq!(object(text).unwrap_err().to_string(), message, "{text}");
        }
        assert!(object(&format!("a={}", "{b=".repeat(100))).is_err());
    }
}
