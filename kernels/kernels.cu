// Every kernel, as one translation unit: one image to embed, and what the host build compiles.
#include "crops.cu"
#include "depthwise_conv.cu"
#include "norm.cu"
#include "pointwise.cu"
#include "reduce.cu"
#include "selective_scan.cu"
#include "selective_scan_backward.cu"
