//! csi.proto and kubelet's plugin registration, and the code generated from them.
