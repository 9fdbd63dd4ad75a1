"""`python -m lambent`."""

from lambent.cli.main import main

if __name__ == "__main__":
    main()
