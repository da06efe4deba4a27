//! Plots, HTML, markdown.
