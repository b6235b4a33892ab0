// Comes to `hit` over and over, each time by other calls: virtual ones, templates, lambdas, algorithms of
// the library, destructors while an exception passes. What comes when is the same in every run.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define NOINLINE __attribute__((noinline))

static unsigned seed = 54321;
static volatile int sink;

static unsigned below(unsigned n) {
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % n;
}

extern "C" NOINLINE void hit(int n) { sink = sink + n; }

static void step(int depth);

namespace shapes {
struct Shape {
    virtual ~Shape() = default;
    virtual int area(int depth) const = 0;
};

struct Square : Shape {
    int side = 3;
    NOINLINE int area(int depth) const override {
        step(depth - 1);
        return sink + side;
    }
};

struct Round : Shape {
    int radius = 2;
    int square() const { return radius * radius; }
    NOINLINE int area(int depth) const override {
        int before = square();
        step(depth - 1);
        return sink + before;
    }
};
} // namespace shapes

template <typename T> struct Box {
    T value;
    template <typename F> NOINLINE int apply(F f, int depth) {
        int got = f(value, depth);
        return got + sink;
    }
};

struct Leaving {
    int depth;
    ~Leaving() {
        step(depth - 1);
        sink = sink + 1;
    }
};

NOINLINE static int throwing(int depth) {
    Leaving leaving{depth};
    if (sink != -1)
        throw std::runtime_error("on purpose");
    return depth;
}

NOINLINE static void caught(int depth) {
    try {
        sink = sink + throwing(depth);
    } catch (const std::exception &error) {
        sink = sink + error.what()[0];
    }
}

NOINLINE static void sorted(int depth) {
    std::vector<int> numbers(20);
    std::generate(numbers.begin(), numbers.end(), [] { return static_cast<int>(below(100)); });
    int calls = 0;
    std::sort(numbers.begin(), numbers.end(), [&](int a, int b) {
        if (++calls == 7)
            step(depth - 1);
        return a < b;
    });
    sink = sink + numbers[0];
}

NOINLINE static void boxed(int depth) {
    Box<std::string> box{"text"};
    sink = sink + box.apply(
                      [](const std::string &text, int depth) {
                          step(depth - 1);
                          return static_cast<int>(text.size()) + sink;
                      },
                      depth);
}

NOINLINE static void held(int depth) {
    std::function<int(int)> function = [depth](int more) {
        step(depth - 1);
        return more + sink;
    };
    sink = sink + function(depth);
}

NOINLINE static void mapped(int depth) {
    std::map<int, std::string> names{{1, "one"}, {2, "two"}};
    std::for_each(names.begin(), names.end(), [&](const auto &entry) {
        if (entry.first == 2)
            step(depth - 1);
        sink = sink + static_cast<int>(entry.second.size());
    });
}

NOINLINE static void virtually(int depth) {
    std::unique_ptr<shapes::Shape> shape;
    if (below(2))
        shape = std::make_unique<shapes::Square>();
    else
        shape = std::make_unique<shapes::Round>();
    sink = sink + shape->area(depth);
}

NOINLINE static void step(int depth) {
    static void (*const ways[])(int) = {caught, sorted, boxed, held, mapped, virtually};
    if (depth <= 0) {
        hit(depth);
        sink = sink + 1;
        return;
    }
    ways[below(6)](depth);
    sink = sink + 1;
}

int main() {
    for (int i = 0; i < 500; i++)
        step(1 + static_cast<int>(below(6)));
}
