"""``python -m llmwatch.cli``, for where the command is not on the path."""

from llmwatch.cli import main

if __name__ == "__main__":
    main()
