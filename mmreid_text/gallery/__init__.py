"""Index of a gallery on disk: which images it holds, their features, and what is known of them."""
