"""The embedded Kaggle: a server on 127.0.0.1 that speaks Kaggle's wire protocol and really runs kernels.

`service` is what the command line uses; everything else is the server. `docs/embedded-kaggle.md` says what is
emulated, how to inject faults, and what is left out.
"""
