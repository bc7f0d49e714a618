"""`python -m gptmodel`: the command line."""

from gptmodel.cli.app import main

if __name__ == "__main__":
    main()
