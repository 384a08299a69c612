//! Renders the SVG of a figure as PNG.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Family, ID, Query, Style, Weight};
use resvg::usvg::{FontResolver, Options, Tree};

use crate::error::{Error, Result};

/// Pixels of the file for each pixel of the figure: sharp on a dense screen and in print.
const SCALE: f64 = 2.0;

/// Families that are tried first, in this order: those with Latin letters and the signs of
/// mathematics, then those with Chinese as well.
const FAMILIES: [&str; 14] = [
    "Noto Sans",
    "DejaVu Sans",
    "Liberation Sans",
    "Segoe UI",
    "Helvetica Neue",
    "Arial",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Microsoft YaHei",
];

const INSTALL: &str = "install fonts (`apt-get install fonts-dejavu-core fonts-wqy-microhei`, 3 MB, has Latin and \
                       Chinese), or end the name in .svg, which leaves fonts to the reader";

/// The pixels of an SVG document, on a page of one colour, as a PNG file. `path` is for messages.
pub(super) fn png(svg: &str, page: [u8; 3], path: &Path) -> Result<Vec<u8>> {
    let fonts = Arc::new(fonts());
    if fonts.is_empty() {
        return Err(Error::state("no font is installed, so a PNG would have no text")
            .path(path)
            .help(INSTALL));
    }
    let missing = Arc::new(OnceLock::new());
    let options =
        Options { font_resolver: resolver(&fonts, missing.clone()), fontdb: fonts, ..Options::default() };
    let failed =
        |error: &dyn std::fmt::Display| Error::compute(format!("drawing failed: {error}")).path(path);
    // Word joiners and their like have no width; few fonts have them, and nothing is lost.
    let svg: String =
        svg.chars().filter(|c| !matches!(c, '\u{2060}' | '\u{200b}'..='\u{200f}' | '\u{feff}')).collect();
    let tree = Tree::from_str(&svg, &options).map_err(|error| failed(&error))?;
    if let Some(character) = missing.get() {
        let code = u32::from(*character);
        return Err(Error::state(format!(
            "no installed font has {character:?} (U+{code:04X}), which the figure needs"
        ))
        .path(path)
        .help(INSTALL));
    }
    let pixels = |side: f32| (f64::from(side) * SCALE).round() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    let mut map = Pixmap::new(width, height)
        .ok_or_else(|| failed(&format!("no picture can have {width} by {height} pixels")))?;
    // Below the document's own background: where its size is no whole number of pixels, an edge of it
    // would shine through.
    map.fill(Color::from_rgba8(page[0], page[1], page[2], 0xff));
    resvg::render(&tree, Transform::from_scale(SCALE as f32, SCALE as f32), &mut map.as_mut());
    map.encode_png().map_err(|error| failed(&error))
}

/// Looked up anew for each file, so that fonts installed because of an error are found without a
/// restart; only their names are read here.
fn fonts() -> Database {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    fonts
}

/// All faces: one of each preferred family, then the other upright ones without serifs, then the
/// rest.
fn preferred(fonts: &Database) -> Vec<ID> {
    let face = |name: &&str| fonts.query(&Query { families: &[Family::Name(name)], ..Query::default() });
    let mut order: Vec<ID> = FAMILIES.iter().filter_map(face).collect();
    let mut rest: Vec<_> = fonts.faces().filter(|face| !order.contains(&face.id)).collect();
    rest.sort_by_key(|face| {
        let name = face.post_script_name.to_lowercase();
        let serif = name.contains("serif") && !name.contains("sans");
        (face.style != Style::Normal, serif, face.monospaced, face.weight.0.abs_diff(400))
    });
    order.extend(rest.into_iter().map(|face| face.id));
    order
}

/// Chooses among the installed fonts: usvg on its own leaves a text out where its families are not
/// installed. A character that no font has goes into `missing`.
fn resolver(fonts: &Database, missing: Arc<OnceLock<char>>) -> FontResolver<'static> {
    let order = preferred(fonts);
    let first = order.first().copied();
    FontResolver {
        select_font: Box::new(move |font, fonts| {
            let family = fonts.face(first?)?.families.first()?.0.clone();
            let weight = Weight(font.weight());
            fonts.query(&Query { families: &[Family::Name(&family)], weight, ..Query::default() }).or(first)
        }),
        select_fallback: Box::new(move |wanted, used, fonts| {
            let fits = |face: &ID| !used.contains(face) && has(fonts, *face, wanted);
            let Some(face) = order.iter().copied().find(fits) else {
                missing.get_or_init(|| wanted);
                return None;
            };
            // Bold where the text is bold.
            let weight = used.first().and_then(|&first| fonts.face(first)).map(|face| face.weight);
            let family = fonts.face(face).and_then(|face| face.families.first());
            let alike = family.zip(weight).and_then(|((name, _), weight)| {
                fonts.query(&Query { families: &[Family::Name(name)], weight, ..Query::default() })
            });
            alike.filter(fits).or(Some(face))
        }),
    }
}

fn has(fonts: &Database, face: ID, wanted: char) -> bool {
    let glyph = |data: &[u8], index: u32| {
        ttf_parser::Face::parse(data, index).is_ok_and(|face| face.glyph_index(wanted).is_some())
    };
    fonts.with_face_data(face, glyph).unwrap_or(false)
}
