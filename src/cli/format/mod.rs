//! What commands print: Go templates for `--format`, docker's tables and JSON.
//!
//! Users have Go templates in their scripts (`--format '{{.Names}}'`), so hull understands the
//! language: fields, pipelines, variables, `if`, `range`, `with`, docker's functions and Go's.
//! Templates are applied to JSON values, which is what `inspect` prints anyway. The one crate
//! for this has had no release since 2020 and knows nothing of docker's functions, hence our
//! own.

mod eval;
mod functions;
mod lexer;
mod listing;
mod parser;
mod print;

use serde_json::Value;

pub use listing::{
    Column, escapes, print, print_object, print_objects, print_rows, render_rows, write_table,
};

/// Why a template cannot be used, in docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// It is no template.
    #[error("template parsing error: template: :{line}: {problem}")]
    Parse {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It does not fit the value.
    #[error("template: :{line}: executing \"\" at <{at}>: {problem}")]
    Execute {
        /// Line in the template, from 1.
        line: usize,
        /// The part of the template.
        at: String,
        /// What is wrong.
        problem: String,
    },
}

/// A parsed Go template.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            nodes: parser::parse(lexer::lex(text)?)?,
        })
    }

    /// Applies the template to a value.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, value, false)
    }

    /// Applies the template to the titles of columns: functions then leave them alone.
    fn render_titles(&self, titles: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, titles, true)
    }
}

#[cfg(test)]
mod tests;
