"""What is known of faces: landmarks, topology, the canonical mesh, action units."""
