"""python -m innerloop"""

from innerloop.cli.main import main

if __name__ == "__main__":
    main()
