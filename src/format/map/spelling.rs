//! How a map is written: on the command line, and as Rust.

use std::fmt::Write as _;
use std::str::FromStr;

use super::Map;
use crate::error::{Error, Result};

/// Reads the spelling of the command line: `user=question,assistant=std_answer`. The names are user,
/// input, assistant, system, id, label, messages, role_key, content_key and text, and `role.NAME` for what the file
/// calls a role: `messages=log,role_key=who,role.me=user`. The values are paths; a comma in one is
/// written `\,`. White space is part of a path.
///
/// # Examples
/// ```
/// use lorascope::format::Map;
///
/// let map: Map = "user=q.text,assistant=ans".parse()?;
/// assert_eq!(map, Map::new().user("q.text").assistant("ans"));
/// assert_eq!(map.to_string(), "user=q.text,assistant=ans");
/// let error = "user=q,answer=a".parse::<Map>().unwrap_err();
/// assert!(error.to_string().starts_with("\"answer=a\" is no part of a map: there is no \"answer\"; "));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
impl FromStr for Map {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const HELP: &str = "write user=PATH,assistant=PATH, or messages=PATH, or text=PATH; also input=, system=, id=, label=, role_key=, content_key=, and role.NAME=user";
        let mut map = Self::new();
        for piece in pieces(text) {
            let wrong = |what: std::fmt::Arguments<'_>| {
                Error::input(format_args!("{piece:?} is no part of a map: {what}")).help(HELP)
            };
            // A file may call a role what it likes: `role.a=b=user`.
            let halves =
                if piece.starts_with("role.") { piece.rsplit_once('=') } else { piece.split_once('=') };
            let Some((name, value)) = halves.map(|(name, value)| (name.trim_start(), value)) else {
                return Err(wrong(format_args!("it has no =")));
            };
            if value.is_empty() {
                return Err(wrong(format_args!("nothing follows the =")));
            }
            if let Some(role) = name.strip_prefix("role.") {
                if map.roles.insert(role.to_string(), value.to_string()).is_some() {
                    return Err(wrong(format_args!("it is there twice")));
                }
                continue;
            }
            let place = match name {
                "user" => &mut map.user,
                "input" => &mut map.input,
                "assistant" => &mut map.assistant,
                "system" => &mut map.system,
                "id" => &mut map.id,
                "label" => &mut map.label,
                "messages" => &mut map.messages,
                "role_key" => &mut map.role_key,
                "content_key" => &mut map.content_key,
                "text" => &mut map.text,
                _ => return Err(wrong(format_args!("there is no {name:?}"))),
            };
            if place.replace(value.to_string()).is_some() {
                return Err(wrong(format_args!("it is there twice")));
            }
        }
        map.check()?;
        Ok(map)
    }
}

/// The parts between commas. A comma after a backslash is part of a path, unless that backslash is
/// itself one of a pair, as paths have them.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut backslashes = 0;
    for c in text.chars() {
        let last = pieces.len() - 1;
        match c {
            ',' if backslashes % 2 == 1 => {
                pieces[last].pop();
                pieces[last].push(',');
            }
            ',' => pieces.push(String::new()),
            c => pieces[last].push(c),
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    pieces
}

/// The spelling of the command line, which [`FromStr`] reads.
impl std::fmt::Display for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roles = self.roles.iter().map(|(name, role)| (format!("role.{name}"), role));
        let named =
            self.named().into_iter().filter_map(|(name, value)| Some((name.to_string(), value.as_ref()?)));
        for (n, (name, value)) in named.chain(roles).enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", name.replace(',', "\\,"), value.replace(',', "\\,"))?;
        }
        Ok(())
    }
}

impl Map {
    fn named(&self) -> [(&'static str, &Option<String>); 10] {
        [
            ("user", &self.user),
            ("input", &self.input),
            ("assistant", &self.assistant),
            ("system", &self.system),
            ("id", &self.id),
            ("label", &self.label),
            ("messages", &self.messages),
            ("role_key", &self.role_key),
            ("content_key", &self.content_key),
            ("text", &self.text),
        ]
    }

    /// The map as Rust: `Map::new().user("q.text").assistant("ans")`.
    pub(crate) fn code(&self) -> String {
        let mut code = String::from("Map::new()");
        for (name, value) in self.named() {
            if let Some(value) = value {
                let _ = write!(code, ".{name}({value:?})");
            }
        }
        for (name, role) in &self.roles {
            let _ = write!(code, ".role({name:?}, {role:?})");
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_of_the_command_line_names_what_is_wrong_with_it() {
        let map: Map = "messages=log.0,role_key=who,content_key=said\\,it,role.me=user,role.gpt=4=assistant"
            .parse()
            .unwrap();
        let own = Map::new().messages("log.0").role_key("who").content_key("said,it");
        assert_eq!(map, own.role("me", "user").role("gpt=4", "assistant"));
        assert_eq!(map.to_string().parse::<Map>().unwrap(), map);
        // Keys that end in a backslash, hold commas after one, or begin with a space.
        for path in ["c\\\\", "a\\\\,b", " q ", "a\\.b", "said,it"] {
            let map = Map::new().user(path).assistant("x");
            assert_eq!(map.to_string().parse::<Map>().unwrap(), map, "{map}");
        }
        for (text, what) in [
            ("user", "\"user\" is no part of a map: it has no =; "),
            ("user=", "\"user=\" is no part of a map: nothing follows the =; "),
            ("user=a,user=b", "\"user=b\" is no part of a map: it is there twice; "),
            ("user=a,,assistant=b", "\"\" is no part of a map: it has no =; "),
            ("user=a,bot=b", "\"bot=b\" is no part of a map: there is no \"bot\"; "),
            ("user=a", "the map does not say where the turns are; "),
            ("text=a,role.x=boss", "the map makes \"x\" the role \"boss\"; "),
        ] {
            let error = text.parse::<Map>().unwrap_err().to_string();
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }
}
