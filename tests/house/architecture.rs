//! The picture of the layers in docs/architecture.md is that of the imports: `make layers` draws it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::common::imports::Library;

/// The way of the data, from the first to the last.
const LAYERS: [&str; 18] = [
    "error", "files", "display", "image", "ops", "plot", "spectrum", "hub", "format", "text", "dataset",
    "lora", "model", "train", "devices", "run", "analysis", "prelude",
];
const PICTURE: &str = "docs/layers.svg";
const ROW: usize = 24;
const LEFT: usize = 16;
const TOP: usize = 88;
const NAME: usize = 92;
const CELL: usize = 24;

/// What the picture shows of one layer.
struct Layer {
    name: &'static str,
    /// The first sentence of its documentation.
    says: String,
    files: usize,
    imports: BTreeSet<&'static str>,
}

fn layers(src: &Path) -> Vec<Layer> {
    let all = Library::read(src).imports();
    let top = |path: &str| path.split(['/', '.']).next().unwrap_or_default().to_string();
    let mut imports: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (from, others) in &all {
        let others = others.keys().filter_map(|to| LAYERS.into_iter().find(|layer| *layer == top(to)));
        let others = others.filter(|to| *to != top(from));
        imports.entry(top(from)).or_default().extend(others);
    }
    let layer = |name: &'static str| {
        let files = [src.join(name).join("mod.rs"), src.join(name).with_extension("rs")];
        let source = files.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let source = source.unwrap_or_else(|| panic!("no {name} in {}", src.display()));
        let said: Vec<&str> =
            source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        let said = said.split(|line| line.is_empty()).next().unwrap_or_default().join(" ");
        Layer {
            name,
            says: said
                .split_once(". ")
                .map_or(said.as_str(), |(first, _)| first)
                .trim_end_matches('.')
                .to_string(),
            files: all.keys().filter(|path| top(path) == name).count(),
            imports: imports.get(name).cloned().unwrap_or_default(),
        }
    };
    LAYERS.into_iter().map(layer).collect()
}

/// A row for each layer; a dot in it for each layer that it imports, all of which stand to the left of its own.
fn picture(layers: &[Layer]) -> String {
    let matrix = LEFT + NAME;
    let text = matrix + layers.len() * CELL + 16;
    let (width, height) = (text + 800, TOP + layers.len() * ROW + 16);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<style>text{{fill:#1f2328}}.quiet{{fill:#59636e}}\
         .page{{fill:#fff}}.own{{fill:#d1d9e0}}.dot{{fill:#0969da}}.line{{fill:#f6f8fa}}\
         @media (prefers-color-scheme:dark){{text{{fill:#f0f6fc}}.quiet{{fill:#9198a1}}.page{{fill:#0d1117}}\
         .own{{fill:#3d444d}}.dot{{fill:#4493f8}}.line{{fill:#151b23}}}}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    for (i, layer) in layers.iter().enumerate() {
        let (x, y) = (matrix + i * CELL, TOP + i * ROW);
        let middle = y + ROW / 2 + 4;
        if i % 2 == 0 {
            let _ = writeln!(
                svg,
                "<rect class=\"line\" x=\"8\" y=\"{y}\" width=\"{}\" height=\"{ROW}\"/>",
                width - 16
            );
        }
        let turned =
            format!("x=\"{}\" y=\"{}\" transform=\"rotate(-60 {0} {1})\"", x + CELL / 2 + 4, TOP - 6);
        let _ = writeln!(svg, "<text class=\"quiet\" {turned}>{}</text>", layer.name);
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{middle}\" font-weight=\"bold\">{}</text>", layer.name);
        let _ = writeln!(
            svg,
            "<rect class=\"own\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            x + 3,
            y + 3,
            CELL - 6,
            ROW - 6
        );
        for (j, _) in layers.iter().enumerate().filter(|(_, other)| layer.imports.contains(other.name)) {
            let (x, y) = (matrix + j * CELL + CELL / 2, y + ROW / 2);
            let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>");
        }
        let files = if layer.files == 1 { String::new() } else { format!(" · {} files", layer.files) };
        let says = layer.says.replace('&', "&amp;").replace('<', "&lt;").replace('`', "");
        let _ = writeln!(
            svg,
            "<text x=\"{text}\" y=\"{middle}\">{says}<tspan class=\"quiet\">{files}</tspan></text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[test]
fn the_picture_of_the_layers_is_that_of_the_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(&root.join("src"));
    for (i, layer) in layers.iter().enumerate() {
        assert!(!layer.says.is_empty(), "src/{}: no documentation", layer.name);
        // `error`, `files` and `display` are one level.
        let later = layers[i + 1..].iter().skip_while(|_| i < 3).map(|layer| layer.name);
        let later: Vec<_> = later.filter(|later| layer.imports.contains(later)).collect();
        assert!(i < 3 || later.is_empty(), "{} imports {later:?}", layer.name);
    }
    let drawn = picture(&layers);
    let path = root.join(PICTURE);
    if std::env::var_os("LORASCOPE_DRAW").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == drawn,
        "{PICTURE} is not that of the imports any more: run `make layers`, and look at it"
    );
}
