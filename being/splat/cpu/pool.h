// Worker threads that share out numbered jobs; results must not depend on which thread takes which
// job.
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>

class Pool {
public:
    // The process's pool. It is never destroyed, and a forked child, which has none of its parent's
    // threads, gets its own.
    static Pool& get() {
        static std::atomic<Pool*> current{nullptr};
        Pool* pool = current.load();
        while (!pool || pool->process_ != getpid()) {
            Pool* fresh = new Pool();
            if (current.compare_exchange_strong(pool, fresh)) return *fresh;
            delete fresh;  // another thread was first; it has no workers yet
        }
        return *pool;
    }

    // Calls body(job) for every job in [0, jobs) on at most `threads` threads, this one included,
    // and waits for all.
    template <class Body>
    void run(int64_t jobs, int threads, Body&& body) {
        if (threads > MAX_THREADS) threads = MAX_THREADS;
        if (threads > jobs) threads = int(jobs);
        if (threads <= 1) {
            for (int64_t job = 0; job < jobs; job++) body(job);
            return;
        }
        std::lock_guard<std::mutex> turn(turn_);  // one caller at a time
        threads = 1 + start_workers(threads - 1);
        call_ = [](void* context, int64_t job) {
            (*static_cast<std::remove_reference_t<Body>*>(context))(job);
        };
        context_ = &body;
        jobs_ = jobs;
        next_.store(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            helpers_ = threads - 1;
            round_.fetch_add(1);
        }
        wake_.notify_all();
        work();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            helpers_ = 0;  // whoever has not woken up yet is not waited for
        }
        for (int spin = 0; busy_.load() != 0; spin++) pause(spin);
    }

private:
    static constexpr int MAX_THREADS = 256;
    static constexpr int SPINS =
        2000;  // about 20 microseconds: the stages of one frame follow each other closely

    static void pause(int spin) {
        if (spin > SPINS) std::this_thread::yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    void work() {
        for (int64_t job; (job = next_.fetch_add(1)) < jobs_;) call_(context_, job);
    }

    int start_workers(int wanted) {
        try {
            for (; workers_ < wanted; workers_++) {
                std::thread(&Pool::worker, this, workers_, round_.load()).detach();
            }
        } catch (
            const std::system_error&) {  // the system's thread limit: go on with those there are
        }
        return workers_ < wanted ? workers_ : wanted;
    }

    void worker(int index, uint64_t seen) {
        for (;;) {
            for (int spin = 0; spin < SPINS && round_.load() == seen; spin++) pause(0);
            bool called;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load() != seen; });
                seen = round_.load();
                called = index < helpers_;
                if (called) busy_.fetch_add(1);
            }
            if (!called) continue;
            work();
            busy_.fetch_sub(1);
        }
    }

    const pid_t process_ = getpid();
    std::mutex turn_, mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> busy_{0};
    int workers_ = 0, helpers_ = 0;
    int64_t jobs_ = 0;
    void (*call_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
};
