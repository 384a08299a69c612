//! Which file of the library imports which: read from the syntax, so that tests inside files, comments and texts
//! do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path from the root of the crate: `["lora", "config", "LoraConfig"]`.
type Names = Vec<String>;

/// The files of a library by their module's path: `""` for lib.rs, `lora::config`.
pub struct Library {
    files: BTreeMap<String, File>,
}

struct File {
    path: String,
    /// Names that the file brings in: what it is, what it is called here, whether others see it.
    uses: Vec<(Names, String, bool)>,
    /// Paths in its code, from the root.
    paths: Vec<Names>,
    /// Paths that begin with a name that the file brings in.
    relative: Vec<Names>,
    /// Names that it defines.
    defined: BTreeSet<String>,
}

/// What a file imports, by the path of the other file, with one name each that it takes from there.
pub type Imports = BTreeMap<String, BTreeMap<String, String>>;

impl Library {
    /// Reads all files of `src` but those of the command line.
    pub fn read(src: &Path) -> Self {
        let mut sources = Vec::new();
        collect(src, src, &mut sources);
        Self::of(sources.iter().map(|(path, source)| (path.as_str(), source.as_str())))
    }

    /// Files by their paths below `src`.
    pub fn of<'a>(sources: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let modules: BTreeSet<String> = sources.clone().map(|(path, _)| module(path)).collect();
        let files = sources.map(|(path, source)| {
            let parsed = syn::parse_file(source).unwrap_or_else(|e| panic!("{path}: {e}"));
            let own = module(path);
            let mut reader = Reader {
                at: own.split("::").filter(|part| !part.is_empty()).map(String::from).collect(),
                modules: &modules,
                file: File {
                    path: path.into(),
                    uses: vec![],
                    paths: vec![],
                    relative: vec![],
                    defined: BTreeSet::new(),
                },
            };
            reader.visit_file(&parsed);
            (own, reader.file)
        });
        Self { files: files.collect() }
    }

    /// Who imports whom. A name that is re-exported comes from the file that defines it; to declare a module or
    /// to re-export from it is no import, unless it lies in another top folder.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (own, file) in &self.files {
            let of = imports.entry(file.path.clone()).or_default();
            let top = own.split("::").next();
            let elsewhere = |names: &Names| !own.is_empty() && names.first().map(String::as_str) != top;
            let counted = file.uses.iter().filter(|(names, _, public)| !public || elsewhere(names));
            let private = counted.map(|(names, ..)| names.clone());
            let relative = file.relative.iter().filter_map(|names| {
                let (used, ..) = file.uses.iter().find(|(_, alias, _)| *alias == names[0])?;
                Some(used.iter().chain(&names[1..]).cloned().collect())
            });
            for names in private.chain(file.paths.iter().cloned()).chain(relative) {
                let Some(other) = self.origin(&names, &mut BTreeSet::new()) else { continue };
                if other != *own {
                    of.entry(self.files[&other].path.clone()).or_insert_with(|| names.join("::"));
                }
            }
        }
        imports
    }

    /// The module that defines what a path names.
    fn origin(&self, names: &[String], seen: &mut BTreeSet<Names>) -> Option<String> {
        let (at, module) = (0..=names.len())
            .rev()
            .map(|n| (n, names[..n].join("::")))
            .find(|(_, m)| self.files.contains_key(m))?;
        let file = &self.files[&module];
        let Some(name) = names.get(at) else { return Some(module) };
        if file.defined.contains(name) || !seen.insert(names.to_vec()) {
            return Some(module);
        }
        for (used, alias, _) in &file.uses {
            if alias == name {
                let further: Names = used.iter().chain(&names[at + 1..]).cloned().collect();
                return self.origin(&further, seen);
            }
        }
        for (used, _, _) in file.uses.iter().filter(|(_, alias, public)| alias == "*" && *public) {
            let inside = used.join("::");
            if self.files.get(&inside).is_some_and(|file| file.defined.contains(name)) {
                return Some(inside);
            }
        }
        Some(module)
    }
}

fn collect(folder: &Path, src: &Path, sources: &mut Vec<(String, String)>) {
    for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(src).unwrap().to_string_lossy().to_string();
        if path.is_dir() && !["bin", "kernel"].contains(&name.as_str()) {
            collect(&path, src, sources);
        } else if name.ends_with(".rs") {
            sources.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// `lora/config.rs` is `lora::config`, `lora/mod.rs` is `lora`, `lib.rs` is the root.
fn module(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

/// Whether an item is there in tests only.
pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test")))
    })
}

struct Reader<'a> {
    /// The module that is read: that of the file, or one inside it.
    at: Names,
    modules: &'a BTreeSet<String>,
    file: File,
}

impl Reader<'_> {
    /// A path of this library from its root, if it is one.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let first = names.first()?.as_str();
        let ups = names.iter().take_while(|name| *name == "super").count();
        Some(match first {
            "crate" => names[1..].to_vec(),
            "self" => self.at.iter().chain(&names[1..]).cloned().collect(),
            "super" => {
                self.at[..self.at.len().checked_sub(ups)?].iter().chain(&names[ups..]).cloned().collect()
            }
            _ => {
                let child: Names = self.at.iter().chain(names).cloned().collect();
                let nearest = child[..=self.at.len()].join("::");
                self.modules.contains(&nearest).then_some(child)?
            }
        })
    }

    fn path(&mut self, names: &[String]) {
        // A single name is known by its `use`.
        if names.len() > 1 {
            match self.absolute(names) {
                Some(names) => self.file.paths.push(names),
                None => self.file.relative.push(names.to_vec()),
            }
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree, public: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Names>();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree, public),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree, public)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let alias = before.last().cloned().unwrap_or_default();
                self.used(before, alias, public);
            }
            syn::UseTree::Name(name) => self.used(&with(&name.ident), name.ident.to_string(), public),
            syn::UseTree::Rename(name) => {
                let names = if name.ident == "self" { before.to_vec() } else { with(&name.ident) };
                self.used(&names, name.rename.to_string(), public);
            }
            syn::UseTree::Glob(_) => self.used(before, "*".into(), public),
        }
    }

    fn used(&mut self, names: &[String], alias: String, public: bool) {
        if let Some(names) = self.absolute(names) {
            self.file.uses.push((names, alias, public));
        }
    }

    /// The paths in what is given to a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut names, mut joined) = (Names::new(), 0);
        for token in tokens
            .into_iter()
            .chain([TokenTree::Punct(proc_macro2::Punct::new(';', proc_macro2::Spacing::Alone))])
        {
            match token {
                TokenTree::Ident(name) if names.is_empty() || joined == 2 => {
                    names.push(name.to_string());
                    joined = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !names.is_empty() => {
                    joined += 1;
                    continue;
                }
                TokenTree::Ident(name) => {
                    self.path(&std::mem::replace(&mut names, vec![name.to_string()]));
                    joined = 0;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => {}
            }
            self.path(&std::mem::take(&mut names));
            joined = 0;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (attributes, name): (&[_], Option<&syn::Ident>) = match item {
            syn::Item::Const(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            syn::Item::Impl(item) => (&item.attrs, None),
            syn::Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            syn::Item::Mod(item) => (&item.attrs, None),
            syn::Item::Static(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Type(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Use(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if !is_test(attributes) {
            self.file.defined.extend(name.map(ToString::to_string));
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.at.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Names>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
