"""What only the book's pages use: exercises, things to move, tables, the paper's scores."""
