// Exceptions through deep frames, rethrown, across a future and out of the library, on eight
// threads at once; streams, maps, regular expressions and locks; at the end one nobody catches.
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Counted {
    int &ends;
    explicit Counted(int &ends) : ends(ends) {}
    ~Counted() { ++ends; }
};

static int deep(int depth, int &ends) {
    Counted counted(ends);
    if (depth == 0)
        throw std::runtime_error("deep");
    return deep(depth - 1, ends) + 1;
}

static std::mutex turn_lock;
static std::condition_variable turn_changed;
static int turn;

static long work(int number) {
    long sum = 0;
    int ends = 0;
    for (int i = 0; i < 500; i++) {
        try {
            deep(i % 17, ends);
        } catch (const std::runtime_error &error) {
            sum += std::string(error.what()).size();
            try {
                throw;
            } catch (const std::exception &) {
                sum++;
            }
        }
        std::ostringstream text;
        text << i << ' ' << number;
        std::map<std::string, int> map;
        map[text.str()] = i;
        sum += map.begin()->second;
    }
    std::unique_lock<std::mutex> lock(turn_lock);
    turn_changed.wait(lock, [number] { return turn == number; });
    turn++;
    turn_changed.notify_all();
    return sum * 10000 + ends;
}

int main() {
    std::vector<std::thread> threads;
    std::vector<long> results(8);
    for (int i = 0; i < 8; i++)
        threads.emplace_back([&results, i] { results[i] = work(i); });
    for (auto &thread : threads)
        thread.join();
    for (long result : results)
        std::cout << result << '\n';
    auto future = std::async(std::launch::async, []() -> int { throw std::logic_error("async"); });
    try {
        future.get();
    } catch (const std::logic_error &error) {
        std::cout << error.what() << '\n';
    }
    std::smatch match;
    const std::string text = "xxabbbc";
    std::cout << std::regex_search(text, match, std::regex("a(b+)c")) << match[1] << '\n';
    try {
        std::vector<int>().at(3);
    } catch (const std::out_of_range &error) {
        std::cout << error.what() << '\n';
    }
    try {
        delete[] new char[strtoul("9000000000000000000", nullptr, 10)];
    } catch (const std::bad_alloc &error) {
        std::cout << error.what() << std::endl;
    }
    std::set_terminate([] {
        puts("terminate");
        fflush(stdout);
        _Exit(9);
    });
    throw 1;
}
