//! The hwameistor.io/v1alpha1 API: custom resources, labels, annotations, StorageClass parameters, extender wire types.
