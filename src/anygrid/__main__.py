"""``python -m anygrid``, which is how torchrun starts it."""

from anygrid.cli import main

if __name__ == "__main__":
    main()
