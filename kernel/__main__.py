"""`python -m kernel --config run.json`."""

from kernel.main import main

raise SystemExit(main())
