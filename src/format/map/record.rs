//! A record out of which a map takes what it names.

use std::borrow::Cow;

use crate::display::cut;
use crate::format::problems::{Noted, Outcome, ProblemKind};
use crate::format::record::{Keys, Node, Value, one_line};
use crate::format::row::Fault;
use crate::format::schema::{flag_weight, lesser, mark, means_more};
use crate::format::write::json::{key, list};

pub(super) fn wrong<T>(what: String) -> Result<T, Fault> {
    Err((ProblemKind::WrongType, what.into()))
}

pub(super) fn text<'a>(node: &mut Node<'a>, path: &str) -> Result<Cow<'a, str>, Fault> {
    match node.take() {
        Some(text) => Ok(text),
        None => wrong(format!("{path:?} is {}, not a string", node.kind())),
    }
}

/// Takes what a turn has under a path, or under one of the usual keys.
pub(super) fn within<'a>(turn: &mut Node<'a>, path: Option<&str>, usual: [&str; 2]) -> Option<Node<'a>> {
    match path {
        Some(path) => take(turn, &parts(path)),
        None => usual.iter().find_map(|key| take(turn, &[Cow::Borrowed(*key)])),
    }
}

/// The keys of a path.
pub(super) fn parts(path: &str) -> Vec<Cow<'_, str>> {
    if !path.contains('\\') {
        return path.split('.').map(Cow::Borrowed).collect();
    }
    let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), path.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => part.extend(chars.next()),
            '.' => parts.push(Cow::Owned(std::mem::take(&mut part))),
            c => part.push(c),
        }
    }
    parts.push(Cow::Owned(part));
    parts
}

fn find<'n, 'a>(node: &'n mut Node<'a>, path: &[Cow<'_, str>]) -> Option<&'n mut Node<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(node) };
    let inside = match &mut node.value {
        Value::Object(keys) => keys.iter_mut().find(|(key, _)| key == first).map(|(_, node)| node),
        Value::Array(values) => values.get_mut(first.parse::<usize>().ok()?),
        _ => None,
    };
    find(inside?, rest)
}

/// Takes what is at a path out of a value; null is nothing.
fn take<'a>(node: &mut Node<'a>, path: &[Cow<'_, str>]) -> Option<Node<'a>> {
    let (last, parents) = path.split_last()?;
    match &mut find(node, parents)?.value {
        Value::Object(keys) => {
            let i = keys.iter().position(|(key, node)| key == last && !node.is_null())?;
            Some(keys.remove(i).1)
        }
        Value::Array(values) => {
            let place = values.get_mut(last.parse::<usize>().ok()?).filter(|node| !node.is_null())?;
            Some(std::mem::replace(place, Node::new("null", Value::Null)))
        }
        _ => None,
    }
}

/// A record of which parts are taken.
pub(super) struct Record<'a> {
    node: Node<'a>,
    /// The top keys out of which something was taken.
    touched: Vec<String>,
}

impl<'a> Record<'a> {
    pub fn of(keys: Keys<'a>) -> Self {
        Self { node: Node::new("", Value::Object(keys)), touched: Vec::new() }
    }

    pub fn find(&mut self, path: &str) -> Option<&mut Node<'a>> {
        let parts = parts(path);
        self.touched.extend(parts.first().map(|key| key.to_string()));
        find(&mut self.node, &parts)
    }

    pub fn take(&mut self, path: &str) -> Option<Node<'a>> {
        let parts = parts(path);
        self.touched.extend(parts.first().map(|key| key.to_string()));
        take(&mut self.node, &parts)
    }

    pub fn text(&mut self, path: &str) -> Result<Cow<'a, str>, Fault> {
        let mut node = self.take(path).ok_or_else(|| self.missing(path))?;
        text(&mut node, path)
    }

    /// Nothing is at a path: what else the record has.
    pub fn missing(&self, path: &str) -> Fault {
        const SHOWN: usize = 12;
        let keys = self.node.object().into_iter().flatten();
        let left: Vec<String> = keys
            .filter(|(_, node)| !node.is_null())
            .take(SHOWN)
            .map(|(key, _)| format!("{:?}", cut(key, 40)))
            .collect();
        let others = match left.is_empty() {
            true => String::new(),
            false => format!("; the record's other keys are {}", left.join(", ")),
        };
        (ProblemKind::NothingThere, format!("there is nothing at {path:?}{others}").into())
    }

    /// Takes a top key that no path names, with what it holds; null is nothing.
    pub fn take_key(&mut self, name: &str, fits: impl Fn(&Node<'a>) -> bool) -> Option<Node<'a>> {
        let Value::Object(keys) = &mut self.node.value else { return None };
        let free = |key: &str| !self.touched.iter().any(|touched| touched == key);
        let at = keys.iter().position(|(key, _)| key.eq_ignore_ascii_case(name) && free(key))?;
        if !fits(&keys[at].1) && !keys[at].1.is_null() {
            return None;
        }
        Some(keys.remove(at).1).filter(|node| !node.is_null())
    }

    /// Takes what the objects around a path say of the weight of what stands there: nothing, or, where a single
    /// turn stands there, any weight of the innermost. What cannot be read is noted.
    pub fn weight(&mut self, path: &str, turn: bool, noted: &mut Vec<Noted>) -> Option<f32> {
        let (parts, mut weight) = (parts(path), None);
        let (mut node, mut around) = (Some(&mut self.node), String::new());
        for (depth, part) in parts.iter().enumerate() {
            let any = turn && depth > 0 && depth + 1 == parts.len();
            if let Some(Node { value: Value::Object(keys), .. }) = &mut node {
                keys.retain(|(key, node)| {
                    let Some(mark) = mark(key).filter(|_| key != part) else { return true };
                    match flag_weight(mark, node) {
                        Ok(Some(said)) if any || said == 0.0 => weight = lesser(weight, Some(said)),
                        Ok(_) => return true,
                        Err(_) if means_more(key) => return true,
                        Err(what) => {
                            let what = format!(
                                "`{around}{key}` is {what}, which does not say whether the answers are trained on: they are"
                            );
                            noted.push((ProblemKind::WrongType, what.into(), Outcome::Kept));
                            return true;
                        }
                    }
                    false
                });
            }
            around = format!("{around}{part}.");
            node = node.and_then(|node| find(node, std::slice::from_ref(part)));
        }
        weight
    }

    /// What was not taken.
    pub fn rest(&self) -> Option<String> {
        let mut out = b"{".to_vec();
        for (name, node) in self.node.object()? {
            let touched = self.touched.iter().any(|touched| touched == name);
            if touched && is_empty(node) {
                continue;
            }
            key(&mut out, name);
            if touched {
                write(node, &mut out);
            } else {
                out.extend_from_slice(one_line(node.raw).as_bytes());
            }
        }
        out.push(b'}');
        String::from_utf8(out).ok().filter(|out| out != "{}")
    }
}

/// Whether nothing is left in a value.
fn is_empty(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Array(values) => values.iter().all(is_empty),
        Value::Object(keys) => keys.iter().all(|(_, node)| is_empty(node)),
        _ => false,
    }
}

fn write(node: &Node<'_>, out: &mut Vec<u8>) {
    match &node.value {
        Value::Array(values) => list(out, values, |out, value| write(value, out)),
        Value::Object(keys) => {
            out.push(b'{');
            for (name, value) in keys {
                key(out, name);
                write(value, out);
            }
            out.push(b'}');
        }
        _ => out.extend_from_slice(one_line(node.raw).as_bytes()),
    }
}

/// A key as a part of a path.
pub(super) fn escaped(key: &str) -> String {
    key.replace('\\', "\\\\").replace('.', "\\.")
}
