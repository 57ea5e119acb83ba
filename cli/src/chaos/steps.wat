;; A job of 600 steps. Each draws a random number, reads the clock, works a little and folds it all
;; into its state; every tenth prints it. It saves where that is due, and restores first: whoever
;; resumes it otherwise than exactly where it was makes it print other numbers, or trap. Its state is
;; large enough for a file of its own: 128 KiB, of which all but the beginning repeats one byte.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "hackbrain:job/checkpoint@0.1.0" "restore" (func $restore (param i32)))
  (import "hackbrain:job/checkpoint@0.1.0" "due" (func $due (param i64) (result i32)))
  (import "hackbrain:job/checkpoint@0.1.0" "save" (func $save (param i64 i32 i32) (result i64)))
  (memory (export "memory") 40)
  ;; What the host hands over lies from the second MiB on, and is never given back.
  (global $free (mut i32) (i32.const 1048576))
  (global $step (mut i64) (i64.const 0))
  (global $sum (mut i64) (i64.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  ;; Prints a number as 16 digits and a line feed, from bytes 64 to 80.
  (func $print (param $value i64)
    (local $at i32) (local $digit i32)
    (i32.store8 (i32.const 80) (i32.const 10))
    (local.set $at (i32.const 79))
    (loop $next
      (local.set $digit (i32.wrap_i64 (i64.and (local.get $value) (i64.const 15))))
      (i32.store8 (local.get $at)
        (i32.add (local.get $digit)
          (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
      (local.set $value (i64.shr_u (local.get $value) (i64.const 4)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $next (i32.ge_u (local.get $at) (i32.const 64))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 17))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))
  (func $mix (param $value i64)
    (global.set $sum (i64.add (i64.mul (global.get $sum) (i64.const 6364136223846793005))
      (local.get $value))))
  ;; The byte that a state repeats.
  (func $byte (result i32) (i32.and (i32.wrap_i64 (global.get $sum)) (i32.const 255)))
  (func $work
    (local $left i32)
    (local.set $left (i32.const 60000))
    (loop $next
      (call $mix (i64.extend_i32_u (local.get $left)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left))))
  (func (export "_start")
    (local $at i32)
    ;; An option: a flag, then the sequence, the step, and where and how long the state is.
    (call $restore (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then
      (local.set $at (i32.load (i32.const 280)))
      (if (i32.ne (i32.load (i32.const 284)) (i32.const 131072)) (then unreachable))
      (global.set $step (i64.load (local.get $at)))
      (global.set $sum (i64.load offset=8 (local.get $at)))
      (if (i32.ne (i32.load8_u offset=16 (local.get $at)) (call $byte)) (then unreachable))
      (if (i32.ne (i32.load8_u offset=131071 (local.get $at)) (call $byte)) (then unreachable))))
    (loop $next
      (if (call $due (global.get $step)) (then
        (memory.fill (i32.const 262144) (call $byte) (i32.const 131072))
        (i64.store (i32.const 262144) (global.get $step))
        (i64.store (i32.const 262152) (global.get $sum))
        (drop (call $save (global.get $step) (i32.const 262144) (i32.const 131072)))))
      (if (call $random_get (i32.const 104) (i32.const 8)) (then unreachable))
      (call $mix (i64.load (i32.const 104)))
      (if (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 96)) (then unreachable))
      (call $mix (i64.load (i32.const 96)))
      (call $work)
      (global.set $step (i64.add (global.get $step) (i64.const 1)))
      (if (i64.eqz (i64.rem_u (global.get $step) (i64.const 10)))
        (then (call $print (global.get $sum))))
      (br_if $next (i64.lt_u (global.get $step) (i64.const 600))))))
