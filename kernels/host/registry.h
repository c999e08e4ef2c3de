// Kernels by name, called with arguments that are checked against their signatures, or as a driver gets them.
#pragma once
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

enum class Kind : uint32_t { BUFFER, INT, LONG };

struct Argument {
    Kind kind;
    int64_t value;
    void* pointer;
};

// What each thread of a launch does.
using Body = std::function<void()>;
using Kernel = std::function<Body(const std::vector<Argument>&)>;
// The same for arguments as cuLaunchKernel gets them: where each value stands, of the type that the kernel has it in.
using PackedKernel = std::function<Body(void**)>;

inline void expect(bool right, const std::string& name) {
    if (!right) throw std::runtime_error(name + ": arguments do not fit its signature");
}

template <typename A> struct Take {
    static A from(const Argument& a, const std::string& name) {
        static_assert(std::is_same_v<A, int> || std::is_same_v<A, long long>);
        expect(a.kind == (std::is_same_v<A, int> ? Kind::INT : Kind::LONG), name);
        return static_cast<A>(a.value);
    }
};
template <typename V> struct Take<V*> {
    static V* from(const Argument& a, const std::string& name) {
        expect(a.kind == Kind::BUFFER, name);
        return static_cast<V*>(a.pointer);
    }
};

template <typename... A, size_t... I>
Body prepare(void (*kernel)(A...), const std::vector<Argument>& arguments, const std::string& name,
                           std::index_sequence<I...>) {
    expect(arguments.size() == sizeof...(A), name);
    const std::tuple<A...> values{Take<A>::from(arguments[I], name)...};
    return [kernel, values] { std::apply(kernel, values); };
}

template <typename... A> Kernel wrap(void (*kernel)(A...), std::string name) {
    return [kernel, name](const std::vector<Argument>& arguments) {
        return prepare(kernel, arguments, name, std::index_sequence_for<A...>());
    };
}

template <typename... A, size_t... I> Body prepare_packed(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    const std::tuple<A...> values{*static_cast<std::decay_t<A>*>(arguments[I])...};
    return [kernel, values] { std::apply(kernel, values); };
}

template <typename... A> PackedKernel packed(void (*kernel)(A...)) {
    return [kernel](void** arguments) { return prepare_packed(kernel, arguments, std::index_sequence_for<A...>()); };
}

#define EACH_TYPE(entry, name) entry(name##_f32) entry(name##_f16) entry(name##_bf16)
// Every kernel of ours.
#define KERNELS(entry) \
    EACH_TYPE(entry, selective_scan) entry(selective_scan_f16_to_f32) \
    entry(selective_scan_bf16_to_f32) entry(selective_scan_backward) EACH_TYPE(entry, depthwise_conv) \
    entry(depthwise_conv_weight_gradient) EACH_TYPE(entry, layer_norm) EACH_TYPE(entry, add_layer_norm) \
    entry(layer_norm_backward) entry(layer_norm_parameter_gradients) EACH_TYPE(entry, gelu) EACH_TYPE(entry, silu) \
    EACH_TYPE(entry, gelu_backward) EACH_TYPE(entry, silu_backward) EACH_TYPE(entry, finish_product) EACH_TYPE(entry, modulate) EACH_TYPE(entry, im2col) \
    entry(im2col_backward) EACH_TYPE(entry, merge_directions) EACH_TYPE(entry, gated_merge) EACH_TYPE(entry, mean_tokens) \
    EACH_TYPE(entry, sum_columns) entry(sum_rows) EACH_TYPE(entry, crops)
