//! The commands of a cell that the kernel does itself, in place of evcxr.

/// A cell without the line that brings lorascope, which is there, and the features that this asks for.
pub fn without_lorascope(source: &str) -> (String, Vec<String>) {
    let mut asked = Vec::new();
    let (code, _) = without(source, |command, rest| {
        let dependency = rest.strip_prefix("lorascope").map(str::trim_start);
        let dependency = dependency.filter(|rest| rest.is_empty() || rest.starts_with('='));
        asked.extend(dependency.filter(|_| command == ":dep").into_iter().flat_map(features));
        command == ":dep" && dependency.is_some()
    });
    (code, asked)
}

/// A cell without `:clear` and `:restart`, and whether it had one: evcxr would begin a process without lorascope.
pub fn without_clear(source: &str) -> (String, bool) {
    without(source, |command, _| matches!(command, ":clear" | ":restart"))
}

/// What rust-analyzer is to see of a cell, as long as the cell: for these commands it would read all packages again.
pub fn for_analysis(source: &str) -> String {
    let mut code = without_clear(&without_lorascope(source).0).0;
    code.truncate(source.len());
    code
}

/// A cell without the commands that `is_wanted` finds by the first word and the rest of the line, and whether there were
/// any. Blanks stand in their place. Commands stand before the code: what looks like one in a text is none.
fn without(source: &str, mut is_wanted: impl FnMut(&str, &str) -> bool) -> (String, bool) {
    let (mut code, mut commands, mut found) = (String::new(), true, false);
    for line in source.lines() {
        let words = line.trim_start();
        commands &= words.is_empty() || words.starts_with([':', '!']) || words.starts_with("//");
        let (command, rest) = words.split_once(' ').unwrap_or((words, ""));
        if commands && words.starts_with(':') && is_wanted(command, rest.trim_start()) {
            found = true;
            code.extend(std::iter::repeat_n(' ', line.len()));
        } else {
            code += line;
        }
        code.push('\n');
    }
    (code, found)
}

/// The names in `features = ["cuda", "nccl"]`.
fn features(dependency: &str) -> Vec<String> {
    let list =
        dependency.split_once("features").and_then(|(_, rest)| rest.split_once('[')).map(|(_, rest)| rest);
    let list = list.and_then(|rest| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',')
        .map(|name| name.trim().trim_matches('"').to_string())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_lorascope_is_left_out_and_a_text_is_not() {
        let line = ":dep lorascope = { path = \"..\", features = [\"cuda\"] }";
        let (code, asked) = without_lorascope(&format!("// x\n{line}\nlet a = 1;"));
        assert_eq!(code, format!("// x\n{}\nlet a = 1;\n", " ".repeat(line.len())));
        assert_eq!(asked, ["cuda"]);
        let text = "let a = \"\n:dep lorascope = 1\n\";\n";
        assert_eq!(without_lorascope(text).0, text);
        assert_eq!(without_lorascope(":dep lorascope-x = \"1\"").0, ":dep lorascope-x = \"1\"\n");
    }

    #[test]
    fn clear_is_found_in_all_its_forms() {
        for form in [":clear", " :clear all", ":clear // anew", "!ls\n:clear", "// x\n:vars\n:restart\n1 + 1"]
        {
            assert!(without_clear(form).1, "{form}");
        }
        for other in [":clearly", "let a = 1;\n:clear", "1 + 1", ""] {
            assert!(!without_clear(other).1, "{other}");
        }
        assert_eq!(without_clear(":clear\n1 + 1").0, "      \n1 + 1\n");
    }

    #[test]
    fn places_stay_for_the_analysis() {
        let source = ":dep lorascope = { path = \"…\" }\nDatas";
        let seen = for_analysis(source);
        assert!(seen.len() == source.len() && seen.ends_with("\nDatas") && seen.trim() == "Datas");
    }

    #[test]
    fn features_of_a_dependency_are_read() {
        assert_eq!(features(" = { path = \"..\", features = [\"cuda\", \"nccl\"] }"), ["cuda", "nccl"]);
        assert!(features(" = \"0.1\"").is_empty());
    }
}
