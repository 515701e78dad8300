"""`python -m kernel --config run.json`."""

from kernel.session.main import main

raise SystemExit(main())
