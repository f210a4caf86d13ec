from latentcore.cli import main

raise SystemExit(main())
