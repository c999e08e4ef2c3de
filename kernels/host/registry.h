// The kernels by name, each with its arguments checked against its signature.
#pragma once
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

enum class Kind : uint32_t { BUFFER, INT, LONG };

struct Argument {
    Kind kind;
    int64_t value;
    void* pointer;
};

using Kernel = std::function<std::function<void()>(const std::vector<Argument>&)>;

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
std::function<void()> prepare(void (*kernel)(A...), const std::vector<Argument>& arguments, const std::string& name,
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

inline std::map<std::string, Kernel> registry() {
#define ENTRY(name) {#name, wrap(name, #name)}
#define EACH(name) ENTRY(name##_f32), ENTRY(name##_f16), ENTRY(name##_bf16)
    return {EACH(selective_scan),       ENTRY(selective_scan_backward),
            EACH(depthwise_conv),       ENTRY(depthwise_conv_weight_gradient),
            EACH(layer_norm),           EACH(add_layer_norm),
            ENTRY(layer_norm_backward), ENTRY(layer_norm_parameter_gradients),
            EACH(gelu),                 EACH(silu),
            EACH(gelu_backward),        EACH(silu_backward),
            EACH(modulate),             EACH(im2col),
            ENTRY(im2col_backward),
            EACH(merge_directions),     EACH(gated_merge),
            EACH(mean_tokens),          ENTRY(sum_rows),
            EACH(crops)};
}
