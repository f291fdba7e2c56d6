"""How the first process of every sandbox is started. Short, since a script is compiled at every start, and a module once."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])

import supervisor

supervisor.main()
