//! Text as JSON strings.

use crate::format::record::plain;

/// Appends a JSON string: most of a text stands in it as it is, and is copied in long pieces.
#[inline]
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    inside(out, text);
    out.push(b'"');
}

/// Appends what stands between the quotes of a JSON string.
#[inline]
pub(crate) fn inside(out: &mut Vec<u8>, text: &(impl AsRef<[u8]> + ?Sized)) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_ref();
    loop {
        let length = plain(rest);
        out.extend_from_slice(&rest[..length]);
        let Some(&byte) = rest.get(length) else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x8 => out.extend_from_slice(b"\\b"),
            0xc => out.extend_from_slice(b"\\f"),
            control => {
                let digits = [HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
        rest = &rest[length + 1..];
    }
}

/// Appends a key of an object that begins in `out`, and its colon.
#[inline]
pub(crate) fn key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    string(out, key);
    out.push(b':');
}

/// Appends a list of what `write` appends of each value.
pub(crate) fn list<T>(out: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, value);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_those_of_serde_json() {
        let controls: String = (0u8..=0x7f).map(char::from).collect();
        for text in ["", "a", "\"\\", "数 \u{2028}\u{10ffff}", &controls, &format!("12345678{controls}数")]
        {
            let mut out = Vec::new();
            super::string(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(text).unwrap());
        }
    }
}
