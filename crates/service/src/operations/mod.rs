//! The operations of the control plane, one file a kind of resource.
