package upstream

import "syscall"

// cork holds back what is written until it is taken away, so that it leaves in
// one segment.
func cork(sc syscall.RawConn, on bool) {
	v := 0
	if on {
		v = 1
	}
	sc.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, v)
	})
}
