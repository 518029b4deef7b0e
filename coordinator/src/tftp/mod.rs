//! Read-only TFTP for first boot loaders.
