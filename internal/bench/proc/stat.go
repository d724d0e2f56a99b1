package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc (USER_HZ), which is the same on all of Linux.
const tick = 10 * time.Millisecond

// parseStat returns the parent and the processor time of a process from its
// /proc/PID/stat, that of children which it has waited for not included.
func parseStat(text string) (parent int, used time.Duration, err error) {
	// The name, in brackets, may hold anything.
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, 0, fmt.Errorf("not a stat: %.60q", text)
	}
	numbers := make([]int64, 3)
	for i, field := range []int{1, 11, 12} { // ppid, utime, stime
		if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("not a stat: %w", err)
		}
	}
	return int(numbers[0]), time.Duration(numbers[1]+numbers[2]) * tick, nil
}

// Memory is the memory of processes, in bytes.
type Memory struct {
	// RSS is what is resident; of pages that processes of a server share each has its
	// part (Pss). Anonymous is what of it is no file, which the kernel cannot just take
	// back.
	RSS, Anonymous int64
}

// parseRollup reads a /proc/PID/smaps_rollup.
func parseRollup(text string) (Memory, error) {
	var m Memory
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		var to *int64
		switch name {
		case "Pss":
			to = &m.RSS
		case "Pss_Anon", "Pss_Shmem":
			to = &m.Anonymous
		default:
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("not a smaps_rollup: %w", err)
		}
		*to += n << 10
	}
	if m.RSS == 0 {
		return m, fmt.Errorf("not a smaps_rollup: no Pss in %.60q", text)
	}
	return m, nil
}

// parseBusy returns from /proc/stat the time that all processors were busy, and all
// time. What a host took from a virtual machine counts as busy.
func parseBusy(text string) (busy, all time.Duration, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("not a stat of the machine: %.60q", line)
	}
	for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal; guests are in user
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("not a stat of the machine: %w", err)
		}
		all += time.Duration(n) * tick
		if i != 3 && i != 4 {
			busy += time.Duration(n) * tick
		}
	}
	return busy, all, nil
}

// tree returns the processes of pid: itself and its descendants.
func tree(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		parent, _, err := parseStat(string(text))
		if err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// usedBy returns the processor time of processes.
func usedBy(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		_, used, err := parseStat(string(text))
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// memoryOf returns the memory of processes.
func memoryOf(pids []int) (sum Memory, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return sum, err
		}
		m, err := parseRollup(string(text))
		if err != nil {
			return sum, err
		}
		sum.RSS += m.RSS
		sum.Anonymous += m.Anonymous
	}
	return sum, nil
}
