"""Problems of the book, each with its data, step D, upper objective and metric."""
