// Package systemd holds the kubelet's shutdown inhibitor. On a kiOS node there is no systemd: this file takes the place of
// Kubernetes' own while the kubelet is built, and speaks to init over its socket instead of to logind over D-Bus.
package systemd

import (
	"fmt"
	"net"
	"time"

	"k8s.io/klog/v2"
)

const (
	systemSocket = "/run/system.sock"

	shutdownRequested = 1 // event from init
	continueShutdown  = 2 // command to init

	// Init waits longer than any grace period the kubelet is configured with.
	inhibitDelay = time.Minute
)

// DBusCon is a connection to init. Its name is the one the shutdown manager knows.
type DBusCon struct {
	init net.Conn
}

// InhibitLock stands for init's waiting: init waits for each client that is connected, so there is nothing to hold.
type InhibitLock uint32

// NewDBusCon connects to init.
func NewDBusCon() (*DBusCon, error) {
	connection, err := net.Dial("unix", systemSocket)
	if err != nil {
		return nil, fmt.Errorf("failed connecting to init: %w", err)
	}
	return &DBusCon{init: connection}, nil
}

// CurrentInhibitDelay returns how long init waits for the kubelet.
func (con *DBusCon) CurrentInhibitDelay() (time.Duration, error) {
	return inhibitDelay, nil
}

// OverrideInhibitDelay fails: a longer delay than init's cannot be had.
func (con *DBusCon) OverrideInhibitDelay(wanted time.Duration) error {
	return fmt.Errorf("init waits %v for a shutdown, not %v", inhibitDelay, wanted)
}

// ReloadLogindConf does nothing, as init has no such configuration.
func (con *DBusCon) ReloadLogindConf() error {
	return nil
}

// InhibitShutdown needs no call: init waits for each client that is connected.
func (con *DBusCon) InhibitShutdown() (InhibitLock, error) {
	return 1, nil
}

// ReleaseInhibitLock tells init to go on with the shutdown. Init ignores it while there is none.
func (con *DBusCon) ReleaseInhibitLock(InhibitLock) error {
	_, err := con.init.Write([]byte{continueShutdown})
	return err
}

// MonitorShutdown reports true once init asks for a shutdown, and closes the channel when init hangs up.
func (con *DBusCon) MonitorShutdown(logger klog.Logger) (<-chan bool, error) {
	events := make(chan bool, 1)
	go func() {
		defer close(events)
		event := make([]byte, 1)
		for {
			if _, err := con.init.Read(event); err != nil {
				logger.Error(err, "Lost the connection to init")
				return
			}
			if event[0] == shutdownRequested {
				events <- true
			}
		}
	}()
	return events, nil
}
